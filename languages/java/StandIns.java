import io.grpc.BindableService;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.ServerInterceptors;
import io.grpc.ServerServiceDefinition;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;
import lossd.v1.CrossEntropyRequest;
import lossd.v1.CrossEntropyResponse;
import lossd.v1.EvaluationResult;
import lossd.v1.LossServiceGrpc;
import lossd.v1.Open;
import lossd.v1.StreamRequest;
import lossd.v1.StreamResponse;

/** Servers of the tests'. */
final class StandIns {
  private StandIns() {}

  /** A server that answers every second evaluation before the one before it, and loses those from `lost` on. */
  static BindableService otherOrder(long lost) {
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

  /** A server that answers the first message of a stream and goes. streams: counts them. */
  static BindableService gone(AtomicLong streams) {
    return new LossServiceGrpc.LossServiceImplBase() {
      @Override
      public StreamObserver<StreamRequest> stream(StreamObserver<StreamResponse> out) {
        streams.incrementAndGet();
        boolean[] ended = {false};
        return reading(out, message -> {
          if (ended[0]) return;
          ended[0] = true;
          answer(message, out);
          out.onError(Status.UNAVAILABLE.withDescription("going away").asRuntimeException());
        });
      }
    };
  }

  /** A server that answers all. shown: gets what each call, and stream, shows of its caller. */
  static ServerServiceDefinition showing(List<String> shown) {
    var service = new LossServiceGrpc.LossServiceImplBase() {
      @Override
      public void crossEntropy(CrossEntropyRequest request, StreamObserver<CrossEntropyResponse> out) {
        out.onNext(CrossEntropyResponse.getDefaultInstance());
        out.onCompleted();
      }

      @Override
      public StreamObserver<StreamRequest> stream(StreamObserver<StreamResponse> out) {
        return reading(out, message -> answer(message, out));
      }
    };
    return ServerInterceptors.intercept(service, new ServerInterceptor() {
      @Override
      public <Q, R> ServerCall.Listener<Q> interceptCall(
          ServerCall<Q, R> call, Metadata headers, ServerCallHandler<Q, R> next) {
        shown.add(headers.get(Token.AUTHORIZATION));
        return next.startCall(call, headers);
      }
    });
  }

  /** The answers to a message of a stream: to each evaluation that has come whole. */
  static void answer(StreamRequest message, StreamObserver<StreamResponse> out) {
    for (Open open : message.getOpens().getOpensList()) answer(open.getEvaluationId(), out);
    if (message.hasEnd()) answer(message.getEnd().getEvaluationId(), out);
  }

  private static void answer(long id, StreamObserver<StreamResponse> out) {
    out.onNext(StreamResponse.newBuilder().setResult(EvaluationResult.newBuilder().setEvaluationId(id)).build());
  }

  static StreamObserver<StreamRequest> reading(StreamObserver<StreamResponse> out, Consumer<StreamRequest> read) {
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
}
