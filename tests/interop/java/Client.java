// Interop client: grpc-java on Netty. `Client ADDRESS CASE`.
import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.StreamObserver;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import lossd.v1.*;

public final class Client {
  static final int DEADLINE_MS = 500;
  static final int REFUSALS = 2000;
  // Streams: rows, classes, rows of a block.
  static final int[] WHOLE = {1000, 100, 64}, HALVES = {8, 16, 4};
  static final BufferedReader LINES = new BufferedReader(new InputStreamReader(System.in));

  // An object of JSON.
  static final class Said extends LinkedHashMap<String, Object> {
    Said with(String name, Object value) {
      put(name, value instanceof String ? "\"" + value + "\"" : value);
      return this;
    }

    String line() {
      List<String> members = new ArrayList<>();
      forEach((name, value) -> members.add("\"" + name + "\": " + value));
      return "{" + String.join(", ", members) + "}";
    }
  }

  static ByteBuffer bytes(int size) {
    return ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
  }

  static float[] logits(int n, int c) {
    float[] x = new float[n * c];
    for (int i = 0; i < x.length; i++) x[i] = (float) ((i * 7919L) % 10007 / 1000.0 - 5);
    return x;
  }

  static Tensor.Builder rows(float[] x, int from, int n, int c) {
    ByteBuffer data = bytes(4 * n * c);
    data.asFloatBuffer().put(x, from, n * c);
    return Tensor.newBuilder().setDtype(DataType.DATA_TYPE_FLOAT32).addShape(n).addShape(c).setData(ByteString.copyFrom(data));
  }

  static Tensor indices(long[] y) {
    ByteBuffer data = bytes(8 * y.length);
    data.asLongBuffer().put(y);
    return Tensor.newBuilder().setDtype(DataType.DATA_TYPE_INT64).addShape(y.length).setData(ByteString.copyFrom(data)).build();
  }

  static float[] floats(Tensor tensor) {
    float[] x = new float[tensor.getData().size() / 4];
    tensor.getData().asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(x);
    return x;
  }

  static CrossEntropyRequest.Builder request(int n, int c) {
    long[] y = new long[n];
    for (int i = 0; i < n; i++) y[i] = i * 31 % c;
    return CrossEntropyRequest.newBuilder()
        .setInput(rows(logits(n, c), 0, n, c)).setTarget(indices(y)).addGradients(Gradient.GRADIENT_INPUT);
  }

  // Open, the blocks, End.
  static List<StreamRequest> streamed(int n, int c, int items) {
    CrossEntropyRequest.Builder opened = request(n, c);
    opened.getInputBuilder().setStreamed(Streamed.getDefaultInstance()); // in place of its data
    List<StreamRequest> messages = new ArrayList<>();
    messages.add(StreamRequest.newBuilder().setOpen(Open.newBuilder().setEvaluationId(1).setCrossEntropy(opened)).build());
    float[] x = logits(n, c);
    for (int first = 0; first < n; first += items) {
      Tensor.Builder input = rows(x, first * c, Math.min(items, n - first), c);
      messages.add(StreamRequest.newBuilder()
          .setBlock(Block.newBuilder().setEvaluationId(1).setFirstItem(first).setInput(input)).build());
    }
    messages.add(StreamRequest.newBuilder().setEnd(End.newBuilder().setEvaluationId(1)).build());
    return messages;
  }

  // The loss, and the gradient as one number that changes with every entry's value and place.
  static Said told(Tensor loss, List<float[]> gradient) {
    double weighted = 0;
    long i = 0;
    for (float[] part : gradient) for (float g : part) weighted += Math.abs((double) g) * (1 + i++ % 97);
    return new Said().with("loss", floats(loss)[0]).with("gradient", weighted);
  }

  static Said told(CrossEntropyResponse answer) {
    return told(answer.getLoss(), List.of(floats(answer.getInputGradient())));
  }

  // Tells the test that this point is reached, and waits until it says to go on.
  static void pause() throws Exception {
    System.out.println("paused");
    LINES.readLine();
  }

  // A streamed evaluation.
  static final class Evaluation implements StreamObserver<StreamResponse> {
    final List<StreamRequest> messages;
    final List<float[]> gradient = new ArrayList<>();
    final CompletableFuture<Void> begun = new CompletableFuture<>();
    final CompletableFuture<Integer> code = new CompletableFuture<>();
    final StreamObserver<StreamRequest> call;
    EvaluationResult result;

    Evaluation(LossServiceGrpc.LossServiceStub stub, int[] shape) {
      messages = streamed(shape[0], shape[1], shape[2]);
      call = stub.stream(this);
    }

    // Stands still after its first block was answered, or the call has ended.
    Evaluation half() {
      messages.subList(0, 2).forEach(call::onNext);
      begun.join();
      return this;
    }

    Said finish(int from) {
      messages.subList(from, messages.size()).forEach(call::onNext);
      call.onCompleted();
      int ended = code.join();
      return told(result.getCrossEntropy().getLoss(), gradient).with("blocks", gradient.size()).with("code", ended);
    }

    public void onNext(StreamResponse answer) {
      if (answer.hasBlock()) gradient.add(floats(answer.getBlock().getInputGradient()));
      else result = answer.getResult();
      begun.complete(null);
    }

    public void onError(Throwable error) {
      end(Status.fromThrowable(error));
    }

    public void onCompleted() {
      end(Status.OK);
    }

    void end(Status status) {
      code.complete(status.getCode().value());
      begun.complete(null);
    }
  }

  static Said error(LossServiceGrpc.LossServiceBlockingStub stub) throws Exception {
    try {
      stub.crossEntropy(request(4, 5).setTarget(indices(new long[] {0, 9, 0, 0})).build());
      throw new AssertionError("a wrong request was answered");
    } catch (StatusRuntimeException refused) {
      Said said = new Said().with("code", refused.getStatus().getCode().value());
      byte[] packed = refused.getTrailers().get(Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER));
      for (Any detail : com.google.rpc.Status.parseFrom(packed).getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          ErrorInfo info = detail.unpack(ErrorInfo.class);
          said.with("reason", info.getReason()).with("domain", info.getDomain());
        } else if (detail.is(BadRequest.class)) {
          List<String> fields = new ArrayList<>();
          for (BadRequest.FieldViolation one : detail.unpack(BadRequest.class).getFieldViolationsList())
            fields.add("\"" + one.getField() + "\"");
          said.with("fields", fields);
        }
      }
      return said;
    }
  }

  static Said many(ManagedChannel channel) throws Exception {
    CrossEntropyRequest one = request(8, 16).build();
    LossServiceGrpc.LossServiceFutureStub stub = LossServiceGrpc.newFutureStub(channel);
    List<Future<CrossEntropyResponse>> calls = new ArrayList<>();
    for (int i = 0; i < 1000; i++) calls.add(stub.crossEntropy(one));
    Said first = told(calls.get(0).get());
    boolean same = true;
    for (Future<CrossEntropyResponse> call : calls) same = same && told(call.get()).equals(first);
    return first.with("calls", calls.size()).with("same", same);
  }

  static Said refusals(LossServiceGrpc.LossServiceBlockingStub stub) {
    CrossEntropyRequest large = request(200, 128).build();
    Set<Integer> codes = new HashSet<>();
    for (int i = 0; i < REFUSALS; i++) {
      try {
        stub.crossEntropy(large);
        codes.add(0);
      } catch (StatusRuntimeException refused) {
        codes.add(refused.getStatus().getCode().value());
      }
    }
    if (codes.size() != 1) throw new AssertionError(codes);
    return told(stub.crossEntropy(request(4, 5).build())).with("code", codes.iterator().next());
  }

  static Said drain(ManagedChannel channel) throws Exception {
    LossServiceGrpc.LossServiceBlockingStub stub = LossServiceGrpc.newBlockingStub(channel);
    Evaluation evaluation = new Evaluation(LossServiceGrpc.newStub(channel), HALVES).half();
    pause();
    Said finished = evaluation.finish(2).with("refused", 0);
    try {
      stub.crossEntropy(request(4, 5).build());
    } catch (StatusRuntimeException refused) {
      finished.with("refused", refused.getStatus().getCode().value());
    }
    pause();
    return finished.with("again", floats(stub.withWaitForReady().crossEntropy(request(4, 5).build()).getLoss())[0]);
  }

  static Said run(ManagedChannel channel, String name) throws Exception {
    LossServiceGrpc.LossServiceBlockingStub stub = LossServiceGrpc.newBlockingStub(channel);
    LossServiceGrpc.LossServiceStub streams = LossServiceGrpc.newStub(channel);
    switch (name) {
      case "unary": return told(stub.crossEntropy(request(4, 5).build()));
      case "large": return told(stub.crossEntropy(request(4096, 1024).build()));
      case "stream": return new Evaluation(streams, WHOLE).finish(0);
      case "error": return error(stub);
      case "many": return many(channel);
      case "refusals": return refusals(stub);
      case "drain": return drain(channel);
      case "deadline": {
        Evaluation evaluation = new Evaluation(streams.withDeadlineAfter(DEADLINE_MS, TimeUnit.MILLISECONDS), HALVES);
        return new Said().with("code", evaluation.half().code.join());
      }
      case "cancel": {
        Evaluation evaluation = new Evaluation(streams, HALVES).half();
        evaluation.call.onError(Status.CANCELLED.asException());
        int code = evaluation.code.join();
        return told(stub.crossEntropy(request(4, 5).build())).with("code", code);
      }
      case "keepalive": {
        Evaluation evaluation = new Evaluation(streams, HALVES).half();
        pause();
        return evaluation.finish(2);
      }
      default: throw new IllegalArgumentException(name);
    }
  }

  public static void main(String[] args) throws Exception {
    ManagedChannelBuilder<?> builder =
        ManagedChannelBuilder.forTarget(args[0]).usePlaintext().maxInboundMessageSize(Integer.MAX_VALUE);
    if (args[1].equals("keepalive")) builder.keepAliveTime(10, TimeUnit.SECONDS);
    ManagedChannel channel = builder.build();
    System.out.println(run(channel, args[1]).line());
    channel.shutdownNow();
  }
}
