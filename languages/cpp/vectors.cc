// Replays tests/vectors against a server: as unary calls, and in blocks. usage: vectors ADDRESS FILE…
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>

#include "streams.h"

using namespace lossd;
using google::protobuf::Message;
using google::protobuf::Struct;
using google::protobuf::Value;
using Made = std::unique_ptr<Message>;
using Stub = v1::LossService::Stub;

const Value& member(const Struct& object, const std::string& name) { return object.fields().at(name); }
bool has(const Struct& object, const std::string& name) { return object.fields().count(name); }
const std::string& text(const Struct& object, const std::string& name) { return member(object, name).string_value(); }

// ---- The eight RPCs, by name.

struct Rpc {
  std::function<Made()> request;
  std::function<Made(Stub&, const Message&)> call;
};

template <class Request, class Response>
Rpc rpc(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*)) {
  return {[] { return std::make_unique<Request>(); },
          [method](Stub& stub, const Message& request) -> Made {
            return std::make_unique<Response>(lossd::call(method, stub, static_cast<const Request&>(request)));
          }};
}

const std::map<std::string, Rpc> RPCS{
    {"Activation", rpc(&Stub::Activation)},       {"BCE", rpc(&Stub::BCE)},
    {"BCEWithLogits", rpc(&Stub::BCEWithLogits)}, {"CrossEntropy", rpc(&Stub::CrossEntropy)},
    {"Entropy", rpc(&Stub::Entropy)},             {"KLDivergence", rpc(&Stub::KLDivergence)},
    {"NLL", rpc(&Stub::NLL)},                     {"SelfInformation", rpc(&Stub::SelfInformation)},
};
const std::map<int, std::string> CODES{{3, "INVALID_ARGUMENT"}, {5, "NOT_FOUND"}};

// ---- Answers: tensors by their names in JSON, whichever message they came in.

struct Answer {
  std::map<std::string, v1::Tensor> tensors, outputs;
  std::optional<v1::Summary> summary;
  std::string code, reason, field;  // of a refusal

  void add(const Message& message) {
    auto* reflection = message.GetReflection();
    std::vector<const google::protobuf::FieldDescriptor*> fields;
    reflection->ListFields(message, &fields);
    for (auto* one : fields) {
      if (one->message_type() == v1::Tensor::descriptor())
        append(tensors[one->camelcase_name()], static_cast<const v1::Tensor&>(reflection->GetMessage(message, one)));
      else if (one->message_type() == v1::Outputs::descriptor())
        add_outputs(reflection->GetMessage(message, one));
      else if (one->message_type() == v1::Summary::descriptor())
        summary = static_cast<const v1::Summary&>(reflection->GetMessage(message, one));
    }
  }

 private:
  void add_outputs(const Message& message) {
    Answer found;
    found.add(message);
    for (auto& [name, tensor] : found.tensors) append(outputs[name], tensor);
  }
  // The next items of dimension 0.
  static void append(v1::Tensor& whole, const v1::Tensor& part) {
    if (whole.dtype() == v1::DATA_TYPE_UNSPECIFIED) whole = part;
    else {
      whole.set_shape(0, whole.shape(0) + part.shape(0));
      whole.mutable_data()->append(part.data());
    }
  }
};

void refuse(Answer& answer, const Error& error) {
  auto name = CODES.find(error.code);
  answer.code = name == CODES.end() ? std::to_string(error.code) : name->second;
  answer.reason = error.reason;
  answer.field = error.field;
}

// ---- Elements of every dtype as doubles.

double of_bits(uint32_t bits, int exponent_bits, int mantissa_bits) {
  int exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1), bias = (1 << (exponent_bits - 1)) - 1;
  int mantissa = bits & ((1 << mantissa_bits) - 1);
  double sign = bits >> (exponent_bits + mantissa_bits) ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return mantissa ? NAN : sign * INFINITY;
  if (exponent) mantissa += 1 << mantissa_bits;
  return sign * std::ldexp(mantissa, std::max(exponent, 1) - bias - mantissa_bits);
}

template <class T, class Convert> std::vector<double> decoded(const std::string& bytes, Convert convert) {
  std::vector<T> stored(bytes.size() / sizeof(T));
  std::memcpy(stored.data(), bytes.data(), bytes.size());
  std::vector<double> found;
  for (T one : stored) found.push_back(convert(one));
  return found;
}

std::vector<double> numbers(const v1::Tensor& t) {
  auto plain = [](auto value) { return double(value); };
  switch (t.dtype()) {
    case v1::DATA_TYPE_FLOAT64: return decoded<double>(t.data(), plain);
    case v1::DATA_TYPE_FLOAT32: return decoded<float>(t.data(), plain);
    case v1::DATA_TYPE_FLOAT16: return decoded<uint16_t>(t.data(), [](auto bits) { return of_bits(bits, 5, 10); });
    case v1::DATA_TYPE_BFLOAT16: return decoded<uint16_t>(t.data(), [](auto bits) { return of_bits(bits, 8, 7); });
    case v1::DATA_TYPE_INT64: return decoded<int64_t>(t.data(), plain);
    case v1::DATA_TYPE_BOOL: return decoded<uint8_t>(t.data(), plain);
    default: throw std::runtime_error("an answer of " + v1::DataType_Name(t.dtype()));
  }
}

// ---- Comparison: what is not as the vector says; "" where all is.

double wanted(const Value& value) {
  if (value.kind_case() == Value::kNumberValue) return value.number_value();
  if (value.string_value() == "NaN") return NAN;
  return value.string_value() == "Infinity" ? INFINITY : -INFINITY;
}

bool right(double got, double want, double atol, double rtol) {
  if (std::isnan(want) || std::isnan(got)) return std::isnan(want) && std::isnan(got);
  return got == want || std::fabs(got - want) <= atol + rtol * std::fabs(want);
}

std::string compare(const std::string& name, const Struct& want, const std::vector<double>& got) {
  auto& values = member(want, "values").list_value().values();
  if (size_t(values.size()) != got.size()) return name + " has " + std::to_string(got.size()) + " elements";
  double atol = member(want, "atol").number_value(), rtol = member(want, "rtol").number_value();
  for (size_t i = 0; i < got.size(); i++)
    if (!right(got[i], wanted(values[i]), atol, rtol))
      return name + "[" + std::to_string(i) + "] is " + std::to_string(got[i]);
  return "";
}

std::string compare(const Struct& want, const std::map<std::string, v1::Tensor>& got) {
  size_t expected = 0;
  for (auto& [name, value] : want.fields()) {
    if (name == "outputs" || name == "summary") continue;
    expected++;
    auto found = got.find(name);
    if (found == got.end()) return name + " is absent";
    auto& tensor = found->second;
    std::vector<std::string> shape, wanted_shape;
    for (auto d : tensor.shape()) shape.push_back(std::to_string(d));
    for (auto& d : member(value.struct_value(), "shape").list_value().values()) wanted_shape.push_back(d.string_value());
    if (v1::DataType_Name(tensor.dtype()) != text(value.struct_value(), "dtype") || shape != wanted_shape)
      return name + " has another dtype or shape";
    if (auto wrong = compare(name, value.struct_value(), numbers(tensor)); !wrong.empty()) return wrong;
  }
  return expected == got.size() ? "" : "there are other tensors than were asked for";
}

std::string compare(const Struct& vector, const Answer& got) {
  if (has(vector, "error")) {
    auto& error = member(vector, "error").struct_value();
    bool same = got.code == text(error, "code") && got.reason == text(error, "reason") && got.field == text(error, "field");
    return same ? "" : "refused with " + got.code + " " + got.reason + " " + got.field;
  }
  if (!got.code.empty()) return "refused with " + got.code + " " + got.reason + " " + got.field;
  auto& want = member(vector, "response").struct_value();
  if (auto wrong = compare(want, got.tensors); !wrong.empty()) return wrong;
  static const Struct nothing;
  auto& outputs = has(want, "outputs") ? member(want, "outputs").struct_value() : nothing;
  if (auto wrong = compare(outputs, got.outputs); !wrong.empty()) return wrong;
  if (has(want, "summary") != got.summary.has_value()) return "a summary on one side only";
  if (!got.summary) return "";
  auto& summary = member(want, "summary").struct_value();
  if (got.summary->count() != member(summary, "count").number_value()) return "another count";
  auto wrong = compare("lossSum", member(summary, "lossSum").struct_value(), {got.summary->loss_sum()});
  return wrong + compare("weightSum", member(summary, "weightSum").struct_value(), {got.summary->weight_sum()});
}

// ---- The two ways.

Answer unary(Stub& stub, const Rpc& rpc, const Message& request) {
  Answer answer;
  try {
    answer.add(*rpc.call(stub, request));
  } catch (const Error& error) {
    refuse(answer, error);
  }
  return answer;
}

v1::Tensor* tensor_of(Message& message, const std::string& name) {
  auto* field = message.GetDescriptor()->FindFieldByCamelcaseName(name);
  return static_cast<v1::Tensor*>(message.GetReflection()->MutableMessage(&message, field));
}

Answer in_blocks(Stub& stub, const Struct& how, const Message& request) {
  v1::Open open;
  open.set_evaluation_id(1);
  Message* opened = nullptr;
  for (int i = 0; i < open.GetDescriptor()->field_count(); i++)
    if (auto* field = open.GetDescriptor()->field(i); field->message_type() == request.GetDescriptor())
      opened = open.GetReflection()->MutableMessage(&open, field);
  opened->CopyFrom(request);
  std::map<std::string, v1::Tensor> whole;
  for (auto& name : member(how, "tensors").list_value().values()) {
    auto* tensor = tensor_of(*opened, name.string_value());
    whole[name.string_value()] = *tensor;
    tensor->mutable_streamed();
  }
  Answer answer;
  auto block = [&](v1::Block& block, int64_t first, int64_t count) {
    for (auto& [name, all] : whole) {
      auto* part = tensor_of(block, name);
      size_t item = all.data().size() / all.shape(0);
      *part = all;
      part->set_shape(0, count);
      part->set_data(all.data().substr(first * item, count * item));
    }
  };
  try {
    auto result = evaluate_in_blocks(stub, open, whole.at("input").shape(0), member(how, "blockItems").number_value(),
                                     block, [&](const v1::BlockResult& one) { answer.add(one); });
    auto* response = result.GetReflection()->GetOneofFieldDescriptor(result, result.GetDescriptor()->oneof_decl(0));
    answer.add(result.GetReflection()->GetMessage(result, response));
  } catch (const Error& error) {
    refuse(answer, error);
  }
  return answer;
}

int main(int argc, char** argv) {
  auto stub = v1::LossService::NewStub(connect(argv[1]));
  int passed = 0, failed = 0;
  for (int i = 2; i < argc; i++) {
    std::ifstream file(argv[i]);
    std::string content{std::istreambuf_iterator<char>(file), {}};
    Struct document;
    if (!google::protobuf::util::JsonStringToMessage(content, &document).ok()) return std::puts(argv[i]), 1;
    for (auto& value : member(document, "cases").list_value().values()) {
      auto& vector = value.struct_value();
      auto count = [&](const char* way, const Answer& answer) {
        auto wrong = compare(vector, answer);
        (wrong.empty() ? passed : failed)++;
        if (!wrong.empty())
          std::printf("%s: %s, %s: %s\n", argv[i], text(vector, "name").c_str(), way, wrong.c_str());
      };
      auto& rpc = RPCS.at(text(document, "rpc"));
      auto request = rpc.request();
      std::string json;
      google::protobuf::util::MessageToJsonString(member(vector, "request").struct_value(), &json);
      if (!google::protobuf::util::JsonStringToMessage(json, request.get()).ok()) return std::puts(json.c_str()), 1;
      count("unary", unary(*stub, rpc, *request));
      if (has(vector, "stream")) count("in blocks", in_blocks(*stub, member(vector, "stream").struct_value(), *request));
    }
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed || !passed;
}
