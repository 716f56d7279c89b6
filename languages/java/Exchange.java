import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import lossd.v1.LossServiceGrpc.LossServiceStub;
import lossd.v1.StreamRequest;
import lossd.v1.StreamResponse;

/**
 * A stream: what is sent next, as long as there is something, and what is read. Both run in the call's own thread, in turn.
 *
 * <p>Messages are sent while there is room for them on the wire. `onNext` never waits: a client that calls it in a loop
 * queues all it has in its own memory.
 */
abstract class Exchange implements ClientResponseObserver<StreamRequest, StreamResponse> {
  private final CompletableFuture<Void> end = new CompletableFuture<>();
  private ClientCallStreamObserver<StreamRequest> out;
  private boolean closed;

  /** Whether something was answered: then it is not repeated. */
  boolean heard;

  /** The next message; null where none may be sent before something is read. `done` says that there are no more. */
  abstract StreamRequest next();

  abstract boolean done();

  abstract void read(StreamResponse message);

  @Override
  public final void beforeStart(ClientCallStreamObserver<StreamRequest> requests) {
    out = requests;
    out.setOnReadyHandler(this::send);
  }

  private void send() {
    try {
      StreamRequest message;
      while (!closed && out.isReady() && !done() && (message = next()) != null) out.onNext(message);
      if (!closed && done()) {
        closed = true;
        out.onCompleted();
      }
    } catch (RuntimeException mine) {
      fail(mine);
    }
  }

  private void fail(RuntimeException why) {
    closed = true;
    end.completeExceptionally(why);
    out.cancel("the client gave up", why);
  }

  @Override
  public final void onNext(StreamResponse message) {
    try {
      if (!end.isDone()) read(message);
      send();
    } catch (RuntimeException mine) {
      fail(mine);
    }
  }

  @Override
  public final void onError(Throwable thrown) {
    end.completeExceptionally(Lossd.LossdException.of(thrown));
  }

  @Override
  public final void onCompleted() {
    end.complete(null);
  }

  /** Waits for the stream's end. */
  final void run(LossServiceStub stub) throws InterruptedException {
    stub.stream(this);
    try {
      end.get();
    } catch (ExecutionException thrown) {
      throw (RuntimeException) thrown.getCause();
    }
  }
}
