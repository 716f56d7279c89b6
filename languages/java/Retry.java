import com.google.protobuf.MessageLite;
import io.grpc.Deadline;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.AbstractStub;
import io.grpc.stub.MetadataUtils;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.BiFunction;
import java.util.function.Supplier;
import lossd.v1.LossServiceGrpc.LossServiceStub;

/**
 * When a call is repeated: losses change nothing, so every one may be.
 *
 * <p>UNAVAILABLE is, for 5 s, in which a server starts anew; RESOURCE_EXHAUSTED where the server says after how long; until the
 * deadline. A full server refuses a call by the size that it announces, before it is sent.
 */
final class Retry {
  private static final Metadata.Key<String> BYTES = Metadata.Key.of("lossd-request-bytes", Metadata.ASCII_STRING_MARSHALLER);
  private static final double PATIENCE_S = 5, LONGEST_S = 2;
  private final double startS = System.nanoTime() / 1e9;
  private double nextS = 0.05;

  /** The response, or a LossdException. */
  <S extends AbstractStub<S>, Q extends MessageLite, R> R call(S given, BiFunction<S, Q, R> method, Q request) {
    Metadata headers = new Metadata();
    headers.put(BYTES, Integer.toString(request.getSerializedSize()));
    S stub = given.withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers));
    if (stub.getCallOptions().getDeadline() == null) stub = stub.withDeadlineAfter(60, TimeUnit.SECONDS);
    Deadline deadline = stub.getCallOptions().getDeadline();
    while (true) {
      try {
        return method.apply(stub, request);
      } catch (StatusRuntimeException thrown) {
        pause(Lossd.LossdException.of(thrown), deadline);
      }
    }
  }

  /** Has streams until one ends well: another while the server answers nothing, refuses, and that may help. */
  void stream(LossServiceStub stub, long timeoutSeconds, Supplier<Exchange> made) throws InterruptedException {
    Deadline deadline = Deadline.after(timeoutSeconds, TimeUnit.SECONDS);
    while (true) {
      Exchange exchange = made.get();
      try {
        exchange.run(stub.withDeadline(deadline));
        return;
      } catch (Lossd.LossdException error) {
        if (exchange.heard) throw error;
        pause(error, deadline);
      }
    }
  }

  /** Waits before the next attempt. Throws the error where there is none. */
  private void pause(Lossd.LossdException error, Deadline deadline) {
    boolean away = error.code == Status.Code.UNAVAILABLE;
    if (!away && !(error.code == Status.Code.RESOURCE_EXHAUSTED && error.retryAfterSeconds >= 0)) throw error;
    double waitS = Math.max(nextS, error.retryAfterSeconds) * ThreadLocalRandom.current().nextDouble(0.8, 1.2);
    nextS = Math.min(2 * nextS, LONGEST_S);
    double leftS = deadline.timeRemaining(TimeUnit.MILLISECONDS) / 1e3;
    if (away) leftS = Math.min(leftS, startS + PATIENCE_S - System.nanoTime() / 1e9);
    if (waitS >= leftS) throw error;
    try {
      TimeUnit.MICROSECONDS.sleep((long) (1e6 * waitS));
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw error;
    }
  }
}
