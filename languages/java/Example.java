// Every way to ask lossd from Java. usage: java Example 127.0.0.1:50051

import io.grpc.ManagedChannel;
import io.grpc.Status;
import java.util.concurrent.TimeUnit;
import lossd.v1.CrossEntropyRequest;
import lossd.v1.DataType;
import lossd.v1.EntropyRequest;
import lossd.v1.EvaluationResult;
import lossd.v1.Gradient;
import lossd.v1.Kind;
import lossd.v1.LossServiceGrpc;
import lossd.v1.LossServiceGrpc.LossServiceBlockingStub;
import lossd.v1.LossServiceGrpc.LossServiceStub;
import lossd.v1.Open;
import lossd.v1.Streamed;
import lossd.v1.Tensor;

public final class Example {
  static void oneCall(LossServiceBlockingStub stub) {
    var request = CrossEntropyRequest.newBuilder()
        .setInput(Lossd.tensor(new float[] {2, 0, -1, 0, 3, 0}, 2, 3))
        .setTarget(Lossd.tensor(new long[] {0, 1}, 2))
        .addGradients(Gradient.GRADIENT_INPUT)
        .build();
    var response = Lossd.call(stub.withDeadlineAfter(5, TimeUnit.SECONDS), LossServiceBlockingStub::crossEntropy, request);
    float[] gradient = Lossd.floats(response.getInputGradient());
    System.out.printf("loss %.6f, first gradient %.6f%n", Lossd.scalar(response.getLoss()), gradient[0]);
  }

  static void anError(LossServiceBlockingStub stub) {
    var request = CrossEntropyRequest.newBuilder()
        .setInput(Lossd.tensor(new float[] {2, 0, -1}, 1, 3))
        .setTarget(Lossd.tensor(new long[] {7}, 1))
        .build();
    try {
      Lossd.call(stub, LossServiceBlockingStub::crossEntropy, request);
    } catch (Lossd.LossdException error) {
      System.out.printf("%s, field %s: %s%n", error.reason, error.field, error.getMessage());
    }
  }

  static void aDeadline(LossServiceBlockingStub stub) {
    var request = EntropyRequest.newBuilder()
        .setInput(Lossd.tensor(new float[3_000_000], 3000, 1000))
        .setKind(Kind.KIND_LOGITS)
        .build();
    try {
      Lossd.call(stub.withDeadlineAfter(1, TimeUnit.MILLISECONDS), LossServiceBlockingStub::entropy, request);
    } catch (Lossd.LossdException error) {
      System.out.println(error.code == Status.Code.DEADLINE_EXCEEDED ? "the deadline is over" : error.getMessage());
    }
  }

  /** 40 MB of logits, which no single message takes, with their gradient: 524 rows are about 1 MiB. */
  static void large(LossServiceStub stub) throws InterruptedException {
    int rows = 20_000, classes = 500, items = 524;
    float[] logits = new float[rows * classes], gradient = new float[rows * classes];
    for (int i = 0; i < logits.length; i++) logits[i] = (float) (i * 7919L % 10007 / 1000.0 - 5);
    long[] labels = new long[rows];
    for (int i = 0; i < rows; i++) labels[i] = i * 31L % classes;

    var input = Tensor.newBuilder()
        .setDtype(DataType.DATA_TYPE_FLOAT32).addShape(rows).addShape(classes)
        .setStreamed(Streamed.getDefaultInstance());
    var request = CrossEntropyRequest.newBuilder()
        .setInput(input).setTarget(Lossd.tensor(labels, rows)).addGradients(Gradient.GRADIENT_INPUT);
    var result = Lossd.evaluateInBlocks(
        stub, Open.newBuilder().setEvaluationId(1).setCrossEntropy(request).build(), rows, items,
        (block, first, count) ->
            block.setInput(Lossd.part(logits, first * classes, count * classes, count, classes)),
        block ->
            Lossd.bytes(block.getInputGradient(), DataType.DATA_TYPE_FLOAT32).asFloatBuffer()
                .get(gradient, (int) block.getFirstItem() * classes, (int) block.getInputGradient().getShape(0) * classes));
    double sum = 0;
    for (float value : gradient) sum += Math.abs(value);
    float loss = Lossd.scalar(result.getCrossEntropy().getLoss());
    System.out.printf("loss of 20,000 rows %.5f, sum of |gradient| %.6f%n", loss, sum);
  }

  /** Small evaluations: on one stream they cost no round trip each. One that fails is alone with it. */
  static void many(LossServiceStub stub) throws InterruptedException {
    var results = Lossd.evaluateMany(stub, 1000, i -> Open.newBuilder().setCrossEntropy(CrossEntropyRequest.newBuilder()
        .setInput(Lossd.tensor(new float[] {i / 1000f, 0, 0}, 1, 3))
        .setTarget(Lossd.tensor(new long[] {i == 500 ? 9 : 0}, 1))), 64);
    int failed = 0;
    for (EvaluationResult one : results) failed += one.hasFailure() ? 1 : 0;
    float last = Lossd.scalar(results[999].getCrossEntropy().getLoss());
    System.out.printf("%d results, %d failed, the last loss %.6f%n", results.length, failed, last);
  }

  public static void main(String[] arguments) throws InterruptedException {
    ManagedChannel channel = Lossd.connect(arguments.length > 0 ? arguments[0] : "127.0.0.1:50051");
    oneCall(LossServiceGrpc.newBlockingStub(channel));
    anError(LossServiceGrpc.newBlockingStub(channel));
    aDeadline(LossServiceGrpc.newBlockingStub(channel));
    large(LossServiceGrpc.newStub(channel));
    many(LossServiceGrpc.newStub(channel));
    channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
  }
}
