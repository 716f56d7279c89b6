import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.ServerInterceptors;
import io.grpc.ServerServiceDefinition;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import lossd.v1.CrossEntropyRequest;
import lossd.v1.CrossEntropyResponse;
import lossd.v1.LossServiceGrpc;
import lossd.v1.StreamRequest;
import lossd.v1.StreamResponse;

/** A server of the tests' that refuses the first two calls, streams after so many messages, and remembers what they announced. */
final class Refusing extends LossServiceGrpc.LossServiceImplBase implements ServerInterceptor {
  private static final Metadata.Key<String> BYTES = Metadata.Key.of("lossd-request-bytes", Metadata.ASCII_STRING_MARSHALLER);
  private final StatusRuntimeException refusal;
  private final int taken;
  volatile int calls;
  volatile String announced = "";

  Refusing(StatusRuntimeException refusal) {
    this(refusal, 0);
  }

  Refusing(StatusRuntimeException refusal, int taken) {
    this.refusal = refusal;
    this.taken = taken;
  }

  /** RESOURCE_EXHAUSTED. seconds: what to wait; below 0 for good. */
  static StatusRuntimeException full(double seconds) {
    var status = com.google.rpc.Status.newBuilder().setCode(Status.Code.RESOURCE_EXHAUSTED.value()).setMessage("full");
    var delay = Duration.newBuilder().setNanos((int) (1e9 * seconds));
    if (seconds >= 0) status.addDetails(Any.pack(RetryInfo.newBuilder().setRetryDelay(delay).build()));
    return StatusProto.toStatusRuntimeException(status.build());
  }

  ServerServiceDefinition announcing() {
    return ServerInterceptors.intercept(this, this);
  }

  @Override
  public <Q, R> ServerCall.Listener<Q> interceptCall(ServerCall<Q, R> call, Metadata headers, ServerCallHandler<Q, R> next) {
    announced = headers.get(BYTES);
    return next.startCall(call, headers);
  }

  @Override
  public StreamObserver<StreamRequest> stream(StreamObserver<StreamResponse> out) {
    calls++;
    if (calls > 2) return StandIns.reading(out, message -> StandIns.answer(message, out));
    int[] read = {0};
    if (taken == 0) out.onError(refusal);
    return new StreamObserver<>() {
      @Override
      public void onNext(StreamRequest message) {
        if (++read[0] == taken) out.onError(refusal);
      }

      @Override
      public void onError(Throwable thrown) {}

      @Override
      public void onCompleted() {}
    };
  }

  @Override
  public void crossEntropy(CrossEntropyRequest request, StreamObserver<CrossEntropyResponse> out) {
    calls++;
    if (calls <= 2) {
      out.onError(refusal);
      return;
    }
    out.onNext(CrossEntropyResponse.newBuilder().setLoss(Lossd.tensor(new float[] {1})).build());
    out.onCompleted();
  }
}
