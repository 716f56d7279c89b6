// One call, alone and in a stream, by whom and to whom the arguments or the environment say.
// usage: java Ask ADDRESS [ca=FILE] [cert=FILE key=FILE] [token=TOKEN | token_file=FILE] [tls=true]

import java.util.concurrent.TimeUnit;
import lossd.v1.CrossEntropyRequest;
import lossd.v1.LossServiceGrpc;
import lossd.v1.LossServiceGrpc.LossServiceBlockingStub;
import lossd.v1.Open;

public final class Ask {
  public static void main(String[] arguments) throws InterruptedException {
    Identity identity = new Identity();
    for (int i = 1; i < arguments.length; i++) {
      String[] one = arguments[i].split("=", 2);
      switch (one[0]) {
        case "ca" -> identity.ca = one[1];
        case "cert" -> identity.cert = one[1];
        case "key" -> identity.key = one[1];
        case "token" -> identity.token = one[1];
        case "token_file" -> identity.tokenFile = one[1];
        case "tls" -> identity.tls = one[1].equals("true");
        default -> throw new IllegalArgumentException(arguments[i]);
      }
    }
    int status = 1;
    try {
      var channel = identity.connect(arguments[0]);
      var stub = LossServiceGrpc.newBlockingStub(channel).withDeadlineAfter(3, TimeUnit.SECONDS);
      var request = CrossEntropyRequest.newBuilder()
          .setInput(Lossd.tensor(new float[] {2, 0, -1, 0, 3, 0}, 2, 3))
          .setTarget(Lossd.tensor(new long[] {0, 1}, 2))
          .build();
      var alone = Lossd.call(stub, LossServiceBlockingStub::crossEntropy, request).getLoss();
      var open = Open.newBuilder().setCrossEntropy(request);
      var streamed = Lossd.evaluateMany(LossServiceGrpc.newStub(channel), 1, i -> open, 1)[0].getCrossEntropy().getLoss();
      System.out.printf("loss %.6f, streamed %.6f%n", Lossd.scalar(alone), Lossd.scalar(streamed));
      status = 0;
    } catch (Lossd.LossdException error) {
      System.out.println(error.code.value() + " " + error.reason + " " + error.getMessage());
    } catch (IllegalArgumentException | IllegalStateException error) {
      System.out.println("3 INVALID " + error.getMessage());
    }
    System.exit(status);
  }
}
