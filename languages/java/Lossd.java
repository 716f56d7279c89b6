// lossd from Java: tensors, errors, large tensors in blocks, many small evaluations. Copy it, or what you need of it.

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.MessageLite;
import com.google.protobuf.UnsafeByteOperations;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.AbstractStub;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.List;
import java.util.function.BiFunction;
import java.util.function.Consumer;
import java.util.function.IntFunction;
import lossd.v1.Block;
import lossd.v1.BlockResult;
import lossd.v1.DataType;
import lossd.v1.End;
import lossd.v1.EvaluationResult;
import lossd.v1.Failure;
import lossd.v1.LossServiceGrpc.LossServiceStub;
import lossd.v1.Open;
import lossd.v1.Opens;
import lossd.v1.StreamRequest;
import lossd.v1.StreamResponse;
import lossd.v1.Tensor;

final class Lossd {
  private Lossd() {}

  // ---- Tensors: dense, in C order, little-endian. A ByteBuffer is big-endian unless it is told otherwise.

  static ByteBuffer buffer(int bytes) {
    return ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
  }

  /** Elements of any dtype, as they lie in `elements` from its start to its limit. They are not copied. */
  static Tensor tensor(DataType dtype, ByteBuffer elements, int width, long... shape) {
    long count = Arrays.stream(shape).reduce(1, Math::multiplyExact);
    if (count * width != elements.limit()) {
      throw new IllegalArgumentException(
          elements.limit() + " bytes do not fill the shape " + Arrays.toString(shape) + " of " + dtype);
    }
    ByteString data = UnsafeByteOperations.unsafeWrap(elements.duplicate().rewind());
    return Tensor.newBuilder().setDtype(dtype).addAllShape(Arrays.stream(shape).boxed().toList()).setData(data).build();
  }

  static Tensor tensor(float[] values, long... shape) {
    return part(values, 0, values.length, shape);
  }

  /** `count` elements from `first` on: a block of a large array. */
  static Tensor part(float[] values, int first, int count, long... shape) {
    ByteBuffer bytes = buffer(Float.BYTES * count);
    bytes.asFloatBuffer().put(values, first, count);
    return tensor(DataType.DATA_TYPE_FLOAT32, bytes, Float.BYTES, shape);
  }

  static Tensor tensor(double[] values, long... shape) {
    ByteBuffer bytes = buffer(Double.BYTES * values.length);
    bytes.asDoubleBuffer().put(values);
    return tensor(DataType.DATA_TYPE_FLOAT64, bytes, Double.BYTES, shape);
  }

  static Tensor tensor(long[] values, long... shape) {
    ByteBuffer bytes = buffer(Long.BYTES * values.length);
    bytes.asLongBuffer().put(values);
    return tensor(DataType.DATA_TYPE_INT64, bytes, Long.BYTES, shape);
  }

  static Tensor tensor(int[] values, long... shape) {
    ByteBuffer bytes = buffer(Integer.BYTES * values.length);
    bytes.asIntBuffer().put(values);
    return tensor(DataType.DATA_TYPE_INT32, bytes, Integer.BYTES, shape);
  }

  static Tensor tensor(boolean[] values, long... shape) {
    ByteBuffer bytes = buffer(values.length);
    for (int i = 0; i < values.length; i++) bytes.put(i, (byte) (values[i] ? 1 : 0));
    return tensor(DataType.DATA_TYPE_BOOL, bytes, 1, shape);
  }

  static float[] floats(Tensor tensor) {
    float[] values = new float[bytes(tensor, DataType.DATA_TYPE_FLOAT32).remaining() / Float.BYTES];
    bytes(tensor, DataType.DATA_TYPE_FLOAT32).asFloatBuffer().get(values);
    return values;
  }

  static double[] doubles(Tensor tensor) {
    double[] values = new double[bytes(tensor, DataType.DATA_TYPE_FLOAT64).remaining() / Double.BYTES];
    bytes(tensor, DataType.DATA_TYPE_FLOAT64).asDoubleBuffer().get(values);
    return values;
  }

  static long[] longs(Tensor tensor) {
    long[] values = new long[bytes(tensor, DataType.DATA_TYPE_INT64).remaining() / Long.BYTES];
    bytes(tensor, DataType.DATA_TYPE_INT64).asLongBuffer().get(values);
    return values;
  }

  static boolean[] booleans(Tensor tensor) {
    ByteBuffer bytes = bytes(tensor, DataType.DATA_TYPE_BOOL);
    boolean[] values = new boolean[bytes.remaining()];
    for (int i = 0; i < values.length; i++) values[i] = bytes.get(i) != 0;
    return values;
  }

  static float scalar(Tensor tensor) {
    float[] values = floats(tensor);
    if (values.length != 1) throw new IllegalArgumentException("the tensor has " + values.length + " elements");
    return values[0];
  }

  /** The elements in the message itself, to be read. Throws where they are of another dtype. */
  static ByteBuffer bytes(Tensor tensor, DataType dtype) {
    if (tensor.getDtype() != dtype) throw new IllegalArgumentException("the tensor is " + tensor.getDtype());
    return tensor.getData().asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN);
  }

  // ---- Errors: a status, with a reason for programs and the field at fault.

  static final class LossdException extends RuntimeException {
    final Status.Code code;
    /** "" where nobody said: a server that cannot be reached gives no reason. */
    String reason = "", field = "";
    /** What the server asked to wait; below 0 where retrying will not help. */
    double retryAfterSeconds = -1;

    LossdException(int code, String message, List<Any> details, Throwable cause) {
      super(message, cause);
      this.code = Status.fromCodeValue(code).getCode();
      try {
        for (Any one : details) {
          if (one.is(ErrorInfo.class)) reason = one.unpack(ErrorInfo.class).getReason();
          if (one.is(BadRequest.class)) field = one.unpack(BadRequest.class).getFieldViolations(0).getField();
          if (one.is(RetryInfo.class)) {
            var delay = one.unpack(RetryInfo.class).getRetryDelay();
            retryAfterSeconds = delay.getSeconds() + delay.getNanos() / 1e9;
          }
        }
      } catch (InvalidProtocolBufferException malformed) {
        addSuppressed(malformed);
      }
    }

    static LossdException of(Throwable thrown) {
      var status = StatusProto.fromThrowable(thrown);
      var said = new LossdException(status.getCode(), status.getMessage(), status.getDetailsList(), thrown);
      String told = Identity.advice(said.reason, said.code == Status.Code.UNAVAILABLE ? thrown : null);
      if (told.isEmpty()) return said;
      String first = status.getMessage().lines().findFirst().orElse("");
      return new LossdException(status.getCode(), first + told, status.getDetailsList(), thrown);
    }

    /** One evaluation of a stream failed, and no other. */
    static LossdException of(Failure failure) {
      return new LossdException(failure.getCode(), failure.getMessage(), failure.getDetailsList(), null);
    }
  }

  // ---- Calls

  /** By whom the environment names; `Identity` takes arguments. */
  static ManagedChannel connect(String address) {
    return new Identity().connect(address);
  }

  /** As `call`; the deadline is the stub's, or 60 s from now. */
  static <S extends AbstractStub<S>, Q extends MessageLite, R> R call(S stub, BiFunction<S, Q, R> method, Q request) {
    return new Retry().call(stub, method, request);
  }

  // ---- Streams: see Exchange.

  interface BlockOf {
    /** The tensors of items first … first + count − 1. */
    void fill(Block.Builder block, int first, int count);
  }

  /**
   * One evaluation in blocks of `items` of dimension 0. open: its request, with `streamed` tensors. block: is asked from the
   * first on again where the server refused it before it answered anything.
   */
  static EvaluationResult evaluateInBlocks(
      LossServiceStub stub, Open open, int total, int items, BlockOf block, Consumer<BlockResult> answered)
      throws InterruptedException {
    EvaluationResult[] result = {null};
    new Retry().stream(stub, 300, () -> new Exchange() {
      private int first = -1; // of the next block; −1 before the Open
      private boolean ended;

      @Override
      StreamRequest next() {
        long id = open.getEvaluationId();
        StreamRequest.Builder message = StreamRequest.newBuilder();
        if (first < 0) {
          first = 0;
          return message.setOpen(open).build();
        }
        if (first >= total) {
          ended = true;
          return message.setEnd(End.newBuilder().setEvaluationId(id)).build();
        }
        int count = Math.min(items, total - first);
        block.fill(message.getBlockBuilder().setEvaluationId(id).setFirstItem(first), first, count);
        first += count;
        return message.build();
      }

      @Override
      boolean done() {
        return ended;
      }

      @Override
      void read(StreamResponse message) {
        if (message.hasFailure()) throw LossdException.of(message.getFailure());
        heard = true;
        if (message.hasBlock()) answered.accept(message.getBlock());
        else if (message.hasResult()) result[0] = message.getResult();
      }
    });
    if (result[0] == null) throw new IllegalStateException("the stream ended without a result");
    return result[0];
  }

  /**
   * Small evaluations on one stream, at most `window` of them unanswered. request: that of evaluation i; its id is set
   * here; it is asked from the first on again where the server refused the stream before it answered any. The results are in
   * the order of i, whatever order they came in; a failed one has `failure`.
   */
  static EvaluationResult[] evaluateMany(LossServiceStub stub, int count, IntFunction<Open.Builder> request, int window)
      throws InterruptedException {
    EvaluationResult[] results = new EvaluationResult[count];
    int[] answered = {0};
    new Retry().stream(stub, 300, () -> new Exchange() {
      private int sent;

      @Override
      StreamRequest next() {
        if (sent - answered[0] >= window) return null;
        Open.Builder open = request.apply(sent).setEvaluationId(sent++);
        return StreamRequest.newBuilder().setOpens(Opens.newBuilder().addOpens(open)).build();
      }

      @Override
      boolean done() {
        return sent == count;
      }

      @Override
      void read(StreamResponse message) {
        heard = true;
        message.getResults().getResultsList().forEach(this::put); // the server joins those that are ready together
        if (message.hasResult()) put(message.getResult());
        if (message.hasFailure()) {
          Failure failure = message.getFailure();
          put(EvaluationResult.newBuilder().setEvaluationId(failure.getEvaluationId()).setFailure(failure).build());
        }
      }

      private void put(EvaluationResult result) {
        results[(int) result.getEvaluationId()] = result;
        answered[0]++;
      }
    });
    if (answered[0] != count) throw new IllegalStateException("the stream ended without some of the results");
    return results;
  }
}
