// What can go wrong: errors, deadlines, large answers, streams that fail or answer in another order, a server that goes.
// usage: java LossdTest ADDRESS

import io.grpc.BindableService;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Server;
import io.grpc.ServerBuilder;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
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
import lossd.v1.StreamRequest;
import lossd.v1.StreamResponse;
import lossd.v1.Streamed;

public final class LossdTest {
  private static int passed, failed;
  private static ManagedChannel channel;
  // It tells of every frame that comes after a stream was cancelled.
  private static final Logger LOGGER = Logger.getLogger("io.grpc");

  private static void test(String fact, Callable<Boolean> holds) {
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

  private interface Action {
    void run() throws Exception;
  }

  /** What is thrown. */
  private static <T extends Throwable> T thrown(Class<T> type, Action action) {
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

  private static CrossEntropyRequest.Builder zeros(int rows, int classes) {
    return CrossEntropyRequest.newBuilder()
        .setInput(Lossd.tensor(new float[rows * classes], rows, classes))
        .setTarget(Lossd.tensor(new long[rows], rows))
        .addGradients(Gradient.GRADIENT_INPUT);
  }

  private static CrossEntropyResponse ask(ManagedChannel by, int rows, int classes) {
    LossServiceBlockingStub stub = LossServiceGrpc.newBlockingStub(by).withDeadlineAfter(60, TimeUnit.SECONDS);
    return Lossd.call(() -> stub.crossEntropy(zeros(rows, classes).build()));
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

  /** A server that answers every second evaluation before the one before it, and loses those from `lost` on. */
  private static BindableService otherOrder(long lost) {
    return new LossServiceGrpc.LossServiceImplBase() {
      @Override
      public StreamObserver<StreamRequest> stream(StreamObserver<StreamResponse> out) {
        List<Long> waiting = new ArrayList<>();
        return reading(out, message -> {
          waiting.add(message.getOpens().getOpens(0).getEvaluationId());
          if (waiting.size() < 2) return;
          for (long id : new long[] {waiting.get(1), waiting.get(0)}) {
            var response = CrossEntropyResponse.newBuilder().setLoss(Lossd.tensor(new float[] {id}));
            var result = EvaluationResult.newBuilder().setEvaluationId(id).setCrossEntropy(response);
            if (id < lost) out.onNext(StreamResponse.newBuilder().setResult(result).build());
          }
          waiting.clear();
        });
      }
    };
  }

  /** A server that takes one message of a stream and goes. */
  private static BindableService gone() {
    return new LossServiceGrpc.LossServiceImplBase() {
      @Override
      public StreamObserver<StreamRequest> stream(StreamObserver<StreamResponse> out) {
        boolean[] ended = {false};
        return reading(out, message -> {
          if (!ended[0]) out.onError(Status.UNAVAILABLE.withDescription("going away").asRuntimeException());
          ended[0] = true;
        });
      }
    };
  }

  private static StreamObserver<StreamRequest> reading(
      StreamObserver<StreamResponse> out, Consumer<StreamRequest> read) {
    return new StreamObserver<>() {
      @Override
      public void onNext(StreamRequest message) {
        read.accept(message);
      }

      @Override
      public void onError(Throwable thrown) {}

      @Override
      public void onCompleted() {
        out.onCompleted();
      }
    };
  }

  private static EvaluationResult[] manyFrom(BindableService service) throws Exception {
    Server server = ServerBuilder.forPort(0).addService(service).build().start();
    ManagedChannel other = Lossd.connect("127.0.0.1:" + server.getPort());
    try {
      Open.Builder open = Open.newBuilder().setCrossEntropy(zeros(1, 2));
      return Lossd.evaluateMany(LossServiceGrpc.newStub(other), 500, i -> open, 64);
    } finally {
      other.shutdownNow();
      server.shutdownNow();
    }
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
      var response = Lossd.call(() -> LossServiceGrpc.newBlockingStub(channel).entropy(request));
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
      var outputs = Lossd.call(() -> LossServiceGrpc.newBlockingStub(channel).crossEntropy(request)).getOutputs();
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
      var error = error(() -> ask(nobody, 1, 2));
      nobody.shutdownNow();
      return error.code == Status.Code.UNAVAILABLE;
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
      EvaluationResult[] results = manyFrom(otherOrder(1000));
      for (int i = 0; i < 500; i++) {
        if (Lossd.scalar(results[i].getCrossEntropy().getLoss()) != i) return false;
      }
      return true;
    });
    test("results that never came are not taken for zeros", () ->
        thrown(IllegalStateException.class, () -> manyFrom(otherOrder(498))) != null);
    test("a server that goes in the middle of a stream is UNAVAILABLE", () ->
        error(() -> manyFrom(gone())).code == Status.Code.UNAVAILABLE);
    channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    System.out.printf("%d passed, %d failed%n", passed, failed);
    System.exit(failed > 0 || passed == 0 ? 1 : 0);
  }
}
