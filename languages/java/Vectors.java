// Replays tests/vectors against a server: as unary calls, and in blocks. usage: java Vectors ADDRESS FILE…

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import io.grpc.stub.ClientCalls;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.function.IntToDoubleFunction;
import lossd.v1.Block;
import lossd.v1.LossServiceGrpc;
import lossd.v1.Open;
import lossd.v1.Outputs;
import lossd.v1.Streamed;
import lossd.v1.Summary;
import lossd.v1.Tensor;

public final class Vectors {
  private static ManagedChannel channel;
  private static int passed, failed;

  public static void main(String[] arguments) throws Exception {
    channel = Lossd.connect(arguments[0]);
    for (int i = 1; i < arguments.length; i++) replay(Path.of(arguments[i]));
    channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    System.out.printf("%d passed, %d failed%n", passed, failed);
    System.exit(failed > 0 || passed == 0 ? 1 : 0);
  }

  private static void replay(Path file) throws IOException, InterruptedException {
    JsonObject document = JsonParser.parseString(Files.readString(file)).getAsJsonObject();
    MethodDescriptor<Message, Message> method = method(document.get("rpc").getAsString());
    Message prototype = ((MethodDescriptor.PrototypeMarshaller<Message>) method.getRequestMarshaller())
        .getMessagePrototype();
    for (JsonElement element : document.getAsJsonArray("cases")) {
      JsonObject vector = element.getAsJsonObject();
      Message.Builder request = prototype.newBuilderForType();
      JsonFormat.parser().merge(vector.get("request").toString(), request);
      String name = file.getFileName() + ": " + vector.get("name").getAsString();
      count(name + ", unary", compare(vector, unary(method, request.build())));
      if (vector.has("stream")) {
        count(name + ", in blocks", compare(vector, inBlocks(vector.getAsJsonObject("stream"), request.build())));
      }
    }
  }

  private static void count(String name, String wrong) {
    if (wrong.isEmpty()) passed++;
    else failed++;
    if (!wrong.isEmpty()) System.out.println(name + ": " + wrong);
  }

  @SuppressWarnings("unchecked") // a method's messages are generated classes
  private static MethodDescriptor<Message, Message> method(String rpc) {
    for (MethodDescriptor<?, ?> one : LossServiceGrpc.getServiceDescriptor().getMethods()) {
      if (rpc.equals(one.getBareMethodName())) return (MethodDescriptor<Message, Message>) one;
    }
    throw new IllegalArgumentException(rpc);
  }

  // ---- Answers: tensors by their names in JSON, whichever message they came in.

  private static final class Answer {
    final Map<String, Tensor> tensors = new TreeMap<>(), outputs = new TreeMap<>();
    Summary summary;
    String refusal = "";

    void add(Message message) {
      for (Map.Entry<FieldDescriptor, Object> one : message.getAllFields().entrySet()) {
        if (one.getValue() instanceof Tensor) append(tensors, one.getKey().getJsonName(), (Tensor) one.getValue());
        if (one.getValue() instanceof Summary) summary = (Summary) one.getValue();
        if (one.getValue() instanceof Outputs) {
          ((Outputs) one.getValue()).getAllFields()
              .forEach((field, value) -> append(outputs, field.getJsonName(), (Tensor) value));
        }
      }
    }

    /** The next items of dimension 0. */
    private static void append(Map<String, Tensor> to, String name, Tensor part) {
      to.merge(name, part, (whole, more) -> whole.toBuilder()
          .setShape(0, whole.getShape(0) + more.getShape(0)).setData(whole.getData().concat(more.getData())).build());
    }

    Answer refused(Lossd.LossdException error) {
      refusal = error.code + " " + error.reason + " " + error.field;
      return this;
    }
  }

  private static Answer unary(MethodDescriptor<Message, Message> method, Message request) {
    Answer answer = new Answer();
    try {
      answer.add(Lossd.call(
          LossServiceGrpc.newBlockingStub(channel),
          (stub, sent) -> ClientCalls.blockingUnaryCall(stub.getChannel(), method, stub.getCallOptions(), sent),
          request));
    } catch (Lossd.LossdException error) {
      answer.refused(error);
    }
    return answer;
  }

  private static Answer inBlocks(JsonObject how, Message request) throws InterruptedException {
    Map<String, Tensor> streamed = new TreeMap<>();
    Message.Builder opened = request.toBuilder();
    for (JsonElement name : how.getAsJsonArray("tensors")) {
      FieldDescriptor field = field(opened, name.getAsString());
      Tensor whole = (Tensor) request.getField(field);
      streamed.put(name.getAsString(), whole);
      opened.setField(field, whole.toBuilder().setStreamed(Streamed.getDefaultInstance()).build());
    }
    Open.Builder open = Open.newBuilder().setEvaluationId(1);
    for (FieldDescriptor one : Open.getDescriptor().getFields()) {
      boolean its = one.getJavaType() == FieldDescriptor.JavaType.MESSAGE
          && one.getMessageType() == request.getDescriptorForType();
      if (its) open.setField(one, opened.build());
    }
    Answer answer = new Answer();
    try {
      int total = (int) streamed.get("input").getShape(0);
      var result = Lossd.evaluateInBlocks(
          LossServiceGrpc.newStub(channel), open.build(), total, how.get("blockItems").getAsInt(),
          (block, first, count) -> streamed.forEach((name, whole) -> cut(block, name, whole, first, count)),
          answer::add);
      result.getAllFields().values().stream().filter(one -> one instanceof Message)
          .forEach(one -> answer.add((Message) one));
    } catch (Lossd.LossdException error) {
      answer.refused(error);
    }
    return answer;
  }

  private static void cut(Block.Builder block, String name, Tensor whole, int first, int count) {
    int item = whole.getData().size() / (int) whole.getShape(0);
    block.setField(field(block, name), whole.toBuilder()
        .setShape(0, count).setData(whole.getData().substring(first * item, (first + count) * item)).build());
  }

  private static FieldDescriptor field(Message.Builder message, String jsonName) {
    return message.getDescriptorForType().getFields().stream()
        .filter(one -> one.getJsonName().equals(jsonName)).findFirst().orElseThrow();
  }

  // ---- Elements of every dtype as doubles.

  private static double[] numbers(Tensor tensor) {
    ByteBuffer bytes = Lossd.bytes(tensor, tensor.getDtype());
    int size = bytes.remaining();
    switch (tensor.getDtype()) {
      case DATA_TYPE_FLOAT64: return decoded(size / 8, i -> bytes.getDouble(8 * i));
      case DATA_TYPE_FLOAT32: return decoded(size / 4, i -> bytes.getFloat(4 * i));
      case DATA_TYPE_FLOAT16: return decoded(size / 2, i -> ofBits(bytes.getShort(2 * i) & 0xFFFF, 5, 10));
      case DATA_TYPE_BFLOAT16: return decoded(size / 2, i -> ofBits(bytes.getShort(2 * i) & 0xFFFF, 8, 7));
      case DATA_TYPE_INT64: return decoded(size / 8, i -> bytes.getLong(8 * i));
      case DATA_TYPE_BOOL: return decoded(size, bytes::get);
      default: throw new IllegalArgumentException("an answer of " + tensor.getDtype());
    }
  }

  private static double[] decoded(int count, IntToDoubleFunction element) {
    double[] found = new double[count];
    for (int i = 0; i < count; i++) found[i] = element.applyAsDouble(i);
    return found;
  }

  private static double ofBits(int bits, int exponentBits, int mantissaBits) {
    int most = (1 << exponentBits) - 1, exponent = bits >> mantissaBits & most;
    int mantissa = bits & ((1 << mantissaBits) - 1);
    double sign = bits >> (exponentBits + mantissaBits) != 0 ? -1 : 1;
    if (exponent == most) return mantissa != 0 ? Double.NaN : sign * Double.POSITIVE_INFINITY;
    if (exponent > 0) mantissa += 1 << mantissaBits;
    return sign * mantissa * Math.pow(2, Math.max(exponent, 1) - (most >> 1) - mantissaBits);
  }

  // ---- Comparison: what is not as the vector says; "" where all is.

  private static String compare(JsonObject vector, Answer got) {
    if (vector.has("error")) {
      JsonObject error = vector.getAsJsonObject("error");
      String want = error.get("code").getAsString() + " " + error.get("reason").getAsString() + " "
          + error.get("field").getAsString();
      return want.equals(got.refusal) ? "" : "refused with " + got.refusal;
    }
    if (!got.refusal.isEmpty()) return "refused with " + got.refusal;
    JsonObject want = vector.getAsJsonObject("response");
    JsonObject summary = want.getAsJsonObject("summary"), outputs = want.getAsJsonObject("outputs");
    JsonObject tensors = want.deepCopy();
    tensors.remove("summary");
    tensors.remove("outputs");
    String wrong = compare(tensors, got.tensors) + compare(outputs == null ? new JsonObject() : outputs, got.outputs);
    if ((summary == null) != (got.summary == null)) return wrong + "a summary on one side only";
    if (summary == null) return wrong;
    if (got.summary.getCount() != summary.get("count").getAsLong()) wrong += "another count";
    return wrong + compare("lossSum", summary.getAsJsonObject("lossSum"), new double[] {got.summary.getLossSum()})
        + compare("weightSum", summary.getAsJsonObject("weightSum"), new double[] {got.summary.getWeightSum()});
  }

  private static String compare(JsonObject want, Map<String, Tensor> got) {
    if (!want.keySet().equals(got.keySet())) return got.keySet() + " instead of " + want.keySet();
    StringBuilder wrong = new StringBuilder();
    for (Map.Entry<String, Tensor> one : got.entrySet()) {
      JsonObject wanted = want.getAsJsonObject(one.getKey());
      List<Long> shape = new ArrayList<>();
      wanted.getAsJsonArray("shape").forEach(length -> shape.add(length.getAsLong()));
      boolean same = wanted.get("dtype").getAsString().equals(one.getValue().getDtype().name())
          && shape.equals(one.getValue().getShapeList());
      wrong.append(same ? compare(one.getKey(), wanted, numbers(one.getValue())) : one.getKey() + " is of another kind");
    }
    return wrong.toString();
  }

  private static String compare(String name, JsonObject want, double[] got) {
    JsonArray values = want.getAsJsonArray("values");
    if (values.size() != got.length) return name + " has " + got.length + " elements";
    double atol = want.get("atol").getAsDouble(), rtol = want.get("rtol").getAsDouble();
    for (int i = 0; i < got.length; i++) {
      double wanted = Double.parseDouble(values.get(i).getAsString()); // NaN, Infinity and -Infinity are Java's words too
      boolean right = got[i] == wanted || (Double.isNaN(got[i]) && Double.isNaN(wanted))
          || Math.abs(got[i] - wanted) <= atol + rtol * Math.abs(wanted);
      if (!right) return name + "[" + i + "] is " + got[i] + " instead of " + wanted;
    }
    return "";
  }
}
