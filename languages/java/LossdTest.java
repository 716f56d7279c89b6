// What can go wrong: errors, deadlines, large answers, streams that fail or answer in another order, a server that goes.
// usage: java LossdTest ADDRESS

import io.grpc.BindableService;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Server;
import io.grpc.ServerBuilder;
import io.grpc.ServerServiceDefinition;
import io.grpc.Status;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;
import java.util.logging.Level;
import java.util.logging.Logger;
import lossd.v1.BlockResult;
import lossd.v1.CrossEntropyRequest;
import lossd.v1.CrossEntropyResponse;
import lossd.v1.EntropyRequest;
import lossd.v1.EvaluationResult;
import lossd.v1.Gradient;
import lossd.v1.Kind;
import lossd.v1.LossServiceGrpc;
import lossd.v1.LossServiceGrpc.LossServiceBlockingStub;
import lossd.v1.Open;
import lossd.v1.Output;
import lossd.v1.Streamed;

public final class LossdTest {
  private static int passed, failed;
  private static ManagedChannel channel;
  // It tells of every frame that comes after a stream was cancelled.
  private static final Logger LOGGER = Logger.getLogger("io.grpc");

  static void test(String fact, Callable<Boolean> holds) {
    String wrong = "";
    try {
      if (!holds.call()) wrong = "it is not so";
    } catch (Throwable thrown) {
      wrong = thrown + (thrown.getSuppressed().length > 0 ? " " + thrown.getSuppressed()[0] : "");
    }
    if (wrong.isEmpty()) passed++;
    else failed++;
    if (!wrong.isEmpty()) System.out.println("FAILED " + fact + ": " + wrong);
  }

  interface Action {
    void run() throws Exception;
  }

  /** What is thrown. */
  static <T extends Throwable> T thrown(Class<T> type, Action action) {
    try {
      action.run();
    } catch (Throwable thrown) {
      if (!type.isInstance(thrown)) throw new IllegalStateException(thrown);
      return type.cast(thrown);
    }
    throw new IllegalStateException("nothing was thrown");
  }

  private static Lossd.LossdException error(Action action) {
    return thrown(Lossd.LossdException.class, action);
  }

  static CrossEntropyRequest.Builder zeros(int rows, int classes) {
    return CrossEntropyRequest.newBuilder()
        .setInput(Lossd.tensor(new float[rows * classes], rows, classes))
        .setTarget(Lossd.tensor(new long[rows], rows))
        .addGradients(Gradient.GRADIENT_INPUT);
  }

  static CrossEntropyResponse ask(ManagedChannel by, int rows, int classes) {
    return ask(by, rows, classes, 60_000);
  }

  private static CrossEntropyResponse ask(ManagedChannel by, int rows, int classes, long milliseconds) {
    var stub = LossServiceGrpc.newBlockingStub(by).withDeadlineAfter(milliseconds, TimeUnit.MILLISECONDS);
    return Lossd.call(stub, LossServiceBlockingStub::crossEntropy, zeros(rows, classes).build());
  }

  /** 1000 rows of 100 zeros; row `wrong` has a class that there is not. */
  private static EvaluationResult inBlocks(int wrong, Consumer<BlockResult> answered) throws InterruptedException {
    return inBlocks(wrong, answered, -1);
  }

  /** broken: the first item of the block that cannot be made. */
  private static EvaluationResult inBlocks(int wrong, Consumer<BlockResult> answered, int broken)
      throws InterruptedException {
    long[] labels = new long[1000];
    if (wrong >= 0) labels[wrong] = 100;
    CrossEntropyRequest.Builder request = zeros(1000, 100).setNormalizer(1000); // its targets are streamed
    request.getInputBuilder().setStreamed(Streamed.getDefaultInstance());
    request.getTargetBuilder().setStreamed(Streamed.getDefaultInstance());
    return Lossd.evaluateInBlocks(
        LossServiceGrpc.newStub(channel), Open.newBuilder().setCrossEntropy(request).build(), 1000, 64,
        (block, first, count) -> {
          if (first == broken) throw new ArithmeticException("mine");
          block.setInput(Lossd.tensor(new float[count * 100], count, 100));
          block.setTarget(Lossd.tensor(Arrays.copyOfRange(labels, first, first + count), count));
        },
        answered);
  }

  interface Asking<T> {
    T ask(ManagedChannel by) throws Exception;
  }

  private static <T> T served(ServerServiceDefinition service, Asking<T> asking) throws Exception {
    return served(service, new Identity(), asking);
  }

  /** caller: who asks. */
  static <T> T served(ServerServiceDefinition service, Identity caller, Asking<T> asking) throws Exception {
    Server server = ServerBuilder.forPort(0).addService(service).build().start();
    ManagedChannel other = caller.connect("127.0.0.1:" + server.getPort());
    try {
      return asking.ask(other);
    } finally {
      other.shutdownNow();
      server.shutdownNow();
    }
  }

  private static EvaluationResult[] manyFrom(BindableService service) throws Exception {
    Open.Builder open = Open.newBuilder().setCrossEntropy(zeros(1, 2));
    return served(service.bindService(), by -> Lossd.evaluateMany(LossServiceGrpc.newStub(by), 500, i -> open, 64));
  }

  /** One evaluation in three blocks. made: gets the first items of the blocks that were made. */
  private static EvaluationResult threeBlocksFrom(BindableService service, List<Integer> made) throws Exception {
    return served(service.bindService(), by -> Lossd.evaluateInBlocks(
        LossServiceGrpc.newStub(by), Open.getDefaultInstance(), 3, 1, (block, first, count) -> made.add(first), block -> {}));
  }

  private static String outputOfExample(String address) throws InterruptedException {
    PrintStream usual = System.out;
    ByteArrayOutputStream said = new ByteArrayOutputStream();
    System.setOut(new PrintStream(said, true, StandardCharsets.UTF_8));
    try {
      Example.main(new String[] {address});
    } finally {
      System.setOut(usual);
    }
    return said.toString(StandardCharsets.UTF_8);
  }

  public static void main(String[] arguments) throws InterruptedException {
    String address = arguments[0];
    LOGGER.setLevel(Level.WARNING);
    channel = Lossd.connect(address);
    test("the example prints what it should", () -> {
      String said = outputOfExample(address);
      for (String part : List.of("loss 0.132384, first gradient -0.078103\n",
          "CLASS_OUT_OF_RANGE, field target: target[0] = 7", "the deadline is over\n",
          "loss of 20,000 rows 8.90846, sum of |gradient| 1.995980\n",
          "1000 results, 1 failed, the last loss 0.551869\n")) {
        if (!said.contains(part)) throw new IllegalStateException(said);
      }
      return true;
    });
    test("an empty mean is NaN", () -> Float.isNaN(Lossd.scalar(ask(channel, 0, 3).getLoss())));
    test("NaN in a row is NaN", () -> {
      var request = EntropyRequest.newBuilder().setKind(Kind.KIND_LOGITS)
          .setInput(Lossd.tensor(new float[] {Float.NaN, 1}, 1, 2)).build();
      var response = Lossd.call(LossServiceGrpc.newBlockingStub(channel), LossServiceBlockingStub::entropy, request);
      return Float.isNaN(Lossd.scalar(response.getLoss()));
    });
    test("every dtype of tensor() lies little-endian", () -> {
      byte[] one = Lossd.tensor(new int[] {258}, 1).getData().toByteArray();
      return one[0] == 2 && one[1] == 1 && Lossd.tensor(new boolean[] {true}, 1).getData().byteAt(0) == 1
          && Lossd.doubles(Lossd.tensor(new double[] {0.5}))[0] == 0.5;
    });
    test("a shape with another number of elements is refused before it is sent", () ->
        thrown(IllegalArgumentException.class, () -> Lossd.tensor(new float[3], 2, 2)) != null);
    test("float64 read as float32 is refused", () ->
        thrown(IllegalArgumentException.class, () -> Lossd.floats(Lossd.tensor(new double[1], 1))) != null);
    test("argmax is int64, correct is bool", () -> {
      var request = zeros(2, 3).addOutputs(Output.OUTPUT_ARGMAX).addOutputs(Output.OUTPUT_CORRECT)
          .setInput(Lossd.tensor(new float[] {0, 1, 0, 0, 0, 0}, 2, 3)).build();
      var stub = LossServiceGrpc.newBlockingStub(channel);
      var outputs = Lossd.call(stub, LossServiceBlockingStub::crossEntropy, request).getOutputs();
      return Arrays.equals(Lossd.longs(outputs.getArgmax()), new long[] {1, 0})
          && Arrays.equals(Lossd.booleans(outputs.getCorrect()), new boolean[] {false, true});
    });
    test("a gradient of 16 MB arrives", () ->
        ask(channel, 4000, 1000).getInputGradient().getData().size() == 16_000_000);
    test("without `connect` it would not: every gRPC library takes 4 MiB", () -> {
      ManagedChannel plain = ManagedChannelBuilder.forTarget(address).usePlaintext().build();
      var error = error(() -> ask(plain, 4000, 1000));
      plain.shutdownNow();
      return error.code == Status.Code.RESOURCE_EXHAUSTED;
    });
    test("20 MB in one message are refused", () ->
        error(() -> ask(channel, 5000, 1000)).code == Status.Code.RESOURCE_EXHAUSTED);
    test("where nothing listens a call is UNAVAILABLE", () -> {
      ManagedChannel nobody = Lossd.connect("127.0.0.1:1");
      var error = error(() -> ask(nobody, 1, 2, 300));
      nobody.shutdownNow();
      return error.code == Status.Code.UNAVAILABLE;
    });
    TokenTest.run();
    test("a server that is full for now, or going, is asked again, with the request's size", () -> {
      for (var refusal : List.of(Refusing.full(0.02), Status.UNAVAILABLE.asRuntimeException())) {
        Refusing service = new Refusing(refusal);
        float loss = Lossd.scalar(served(service.announcing(), by -> ask(by, 1, 2)).getLoss());
        int size = zeros(1, 2).build().getSerializedSize();
        if (loss != 1 || service.calls != 3 || !service.announced.equals(Integer.toString(size))) return false;
      }
      return true;
    });
    test("a refusal for good is not repeated, nor one that outlasts the deadline", () -> {
      Refusing good = new Refusing(Refusing.full(-1)), late = new Refusing(Refusing.full(0.9));
      var error = error(() -> served(good.announcing(), by -> ask(by, 1, 2)));
      error(() -> served(late.announcing(), by -> ask(by, 1, 2, 500)));
      return error.code == Status.Code.RESOURCE_EXHAUSTED && good.calls == 1 && late.calls == 1;
    });
    test("blocks give every row its gradient", () -> {
      AtomicLong rows = new AtomicLong();
      EvaluationResult result = inBlocks(-1, block -> rows.addAndGet(block.getInputGradient().getShape(0)));
      return rows.get() == 1000 && Math.abs(Lossd.scalar(result.getCrossEntropy().getLoss()) - Math.log(100)) < 1e-5;
    });
    test("a class that there is not, in a middle block, is an exception with reason and field", () -> {
      var error = error(() -> inBlocks(500, block -> {}));
      return error.code == Status.Code.INVALID_ARGUMENT && error.reason.equals("CLASS_OUT_OF_RANGE")
          && error.field.equals("target");
    });
    test("what the reader throws ends the stream", () ->
        thrown(ArithmeticException.class, () -> inBlocks(-1, block -> {
          throw new ArithmeticException("mine");
        })) != null);
    test("what the maker of blocks throws ends the stream", () ->
        thrown(ArithmeticException.class, () -> inBlocks(-1, block -> {}, 128)) != null);
    test("results in another order stand at their places", () -> {
      EvaluationResult[] results = manyFrom(StandIns.otherOrder(1000));
      for (int i = 0; i < 500; i++) {
        if (Lossd.scalar(results[i].getCrossEntropy().getLoss()) != i) return false;
      }
      return true;
    });
    test("results that never came are not taken for zeros", () ->
        thrown(IllegalStateException.class, () -> manyFrom(StandIns.otherOrder(498))) != null);
    test("a server that goes in the middle of a stream is UNAVAILABLE, and is not asked again", () -> {
      AtomicLong streams = new AtomicLong();
      return error(() -> manyFrom(StandIns.gone(streams))).code == Status.Code.UNAVAILABLE && streams.get() == 1;
    });
    test("a stream that is refused before anything is answered begins again, whatever was taken of it", () -> {
      for (var refusal : List.of(Refusing.full(0.02), Status.UNAVAILABLE.asRuntimeException())) {
        for (int taken = 0; taken < 2; taken++) {
          Refusing many = new Refusing(refusal, taken), one = new Refusing(refusal, taken);
          List<Integer> made = Collections.synchronizedList(new ArrayList<>());
          if (manyFrom(many).length != 500 || many.calls != 3) return false;
          threeBlocksFrom(one, made);
          if (one.calls != 3 || !made.subList(made.size() - 3, made.size()).equals(List.of(0, 1, 2))) return false;
        }
      }
      return true;
    });
    test("a stream that is refused for good is not repeated", () -> {
      Refusing many = new Refusing(Refusing.full(-1)), one = new Refusing(Refusing.full(-1));
      var codes = List.of(error(() -> manyFrom(many)).code, error(() -> threeBlocksFrom(one, new ArrayList<>())).code);
      return Set.of(Status.Code.RESOURCE_EXHAUSTED).containsAll(codes) && many.calls == 1 && one.calls == 1;
    });
    channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    System.out.printf("%d passed, %d failed%n", passed, failed);
    System.exit(failed > 0 || passed == 0 ? 1 : 0);
  }
}
