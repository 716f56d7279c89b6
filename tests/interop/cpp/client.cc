// Interop client: gRPC's C++ stub, blocking. `client ADDRESS CASE`. For little-endian machines.
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <iostream>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <vector>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "lossd/v1/service.grpc.pb.h"

namespace {

using namespace lossd::v1;
using grpc::ClientContext;
using Stub = LossService::Stub;

constexpr auto kDeadline = std::chrono::milliseconds(500);
constexpr int kRefusals = 2000;

// Rows, classes and rows of a block of a stream.
struct Shape {
  int64_t n, c, items;
};
constexpr Shape kWhole{1000, 100, 64}, kHalves{8, 16, 4};

// An object of JSON, of values that are JSON already.
class Said {
 public:
  template <class Value>
  Said& put(const std::string& name, Value value) {
    std::ostringstream text;
    text.precision(17);
    text << std::boolalpha << value;
    values_[name] = text.str();
    return *this;
  }
  Said& quote(const std::string& name, const std::string& value) { return put(name, '"' + value + '"'); }
  std::string line() const {
    std::string joined;
    for (auto& [name, value] : values_) joined += (joined.empty() ? "\"" : ", \"") + name + "\": " + value;
    return '{' + joined + '}';
  }

 private:
  std::map<std::string, std::string> values_;
};

std::vector<float> logits(int64_t n, int64_t c) {
  std::vector<float> x(n * c);
  for (int64_t i = 0; i < n * c; i++) x[i] = float(double(i * 7919 % 10007) / 1000 - 5);
  return x;
}

template <class T>
void fill(Tensor* tensor, DataType dtype, const T* values, std::initializer_list<int64_t> shape) {
  size_t size = sizeof(T);
  tensor->set_dtype(dtype);
  for (auto d : shape) tensor->add_shape(d), size *= d;
  tensor->set_data(values, size);
}

std::vector<float> floats(const Tensor& tensor) {
  std::vector<float> x(tensor.data().size() / sizeof(float));
  std::memcpy(x.data(), tensor.data().data(), tensor.data().size());
  return x;
}

CrossEntropyRequest request(int64_t n, int64_t c) {
  CrossEntropyRequest message;
  std::vector<int64_t> y(n);
  for (int64_t i = 0; i < n; i++) y[i] = i * 31 % c;
  fill(message.mutable_input(), DATA_TYPE_FLOAT32, logits(n, c).data(), {n, c});
  fill(message.mutable_target(), DATA_TYPE_INT64, y.data(), {n});
  message.add_gradients(GRADIENT_INPUT);
  return message;
}

// Open, the blocks, End.
std::vector<StreamRequest> streamed(Shape s) {
  std::vector<StreamRequest> messages(1);
  auto* open = messages[0].mutable_open();
  open->set_evaluation_id(1);
  *open->mutable_cross_entropy() = request(s.n, s.c);
  open->mutable_cross_entropy()->mutable_input()->mutable_streamed();  // in place of its data
  auto x = logits(s.n, s.c);
  for (int64_t first = 0; first < s.n; first += s.items) {
    auto* block = messages.emplace_back().mutable_block();
    block->set_evaluation_id(1);
    block->set_first_item(first);
    fill(block->mutable_input(), DATA_TYPE_FLOAT32, &x[first * s.c], {std::min(s.items, s.n - first), s.c});
  }
  messages.emplace_back().mutable_end()->set_evaluation_id(1);
  return messages;
}

// The loss, and the gradient as one number that changes with every entry's value and place.
Said told(const CrossEntropyResponse& answer, const std::vector<float>& gradient) {
  double weighted = 0;
  for (size_t i = 0; i < gradient.size(); i++) weighted += std::fabs(double(gradient[i])) * double(1 + i % 97);
  return Said().put("loss", floats(answer.loss())[0]).put("gradient", weighted);
}

grpc::Status call(Stub& stub, const CrossEntropyRequest& message, CrossEntropyResponse* answer, bool wait = false) {
  ClientContext context;
  context.set_wait_for_ready(wait);
  return stub.CrossEntropy(&context, message, answer);
}

CrossEntropyResponse answered(Stub& stub, const CrossEntropyRequest& message, bool wait = false) {
  CrossEntropyResponse answer;
  auto status = call(stub, message, &answer, wait);
  if (!status.ok()) throw std::runtime_error(status.error_message());
  return answer;
}

Said unary(Stub& stub, int64_t n, int64_t c, bool wait = false) {
  auto answer = answered(stub, request(n, c), wait);
  return told(answer, floats(answer.input_gradient()));
}

// Tells the test that this point is reached, and waits until it says to go on.
void pause() {
  std::string line;
  std::cout << "paused" << std::endl;
  std::getline(std::cin, line);
}

// A streamed evaluation.
class Evaluation {
 public:
  Evaluation(Stub& stub, Shape shape, std::chrono::milliseconds timeout = std::chrono::minutes(1))
      : messages_(streamed(shape)) {
    context.set_deadline(std::chrono::system_clock::now() + timeout);
    call_ = stub.Stream(&context);
  }

  // Stands still after its first block was answered, or the call has ended.
  void half() {
    send(0, 2);
    StreamResponse answer;
    if (call_->Read(&answer)) take(answer);
  }

  // The code that the call ends with.
  int end() {
    StreamResponse answer;
    while (call_->Read(&answer)) take(answer);
    return call_->Finish().error_code();
  }

  Said finish(size_t from) {
    std::thread writer([&] {  // writes while the other side reads
      send(from, messages_.size());
      call_->WritesDone();
    });
    StreamResponse answer;
    while (call_->Read(&answer)) take(answer);
    writer.join();
    int code = call_->Finish().error_code();
    return told(result_.cross_entropy(), gradient_).put("blocks", blocks_).put("code", code);
  }

  ClientContext context;

 private:
  void send(size_t from, size_t to) {
    for (size_t i = from; i < to && call_->Write(messages_[i]); i++) continue;
  }

  void take(const StreamResponse& answer) {
    if (answer.has_block()) {
      auto part = floats(answer.block().input_gradient());
      gradient_.insert(gradient_.end(), part.begin(), part.end());
      blocks_++;
    } else {
      result_ = answer.result();
    }
  }

  std::vector<StreamRequest> messages_;
  std::unique_ptr<grpc::ClientReaderWriter<StreamRequest, StreamResponse>> call_;
  std::vector<float> gradient_;
  EvaluationResult result_;
  int blocks_ = 0;
};

Said error(Stub& stub) {
  auto message = request(4, 5);
  const int64_t wrong[] = {0, 9, 0, 0};
  message.mutable_target()->Clear();
  fill(message.mutable_target(), DATA_TYPE_INT64, wrong, {4});
  CrossEntropyResponse answer;
  auto status = call(stub, message, &answer);
  Said said;
  said.put("code", int(status.error_code()));
  google::rpc::Status packed;
  packed.ParseFromString(status.error_details());
  google::rpc::ErrorInfo info;
  google::rpc::BadRequest bad;
  for (auto& detail : packed.details()) {
    if (detail.UnpackTo(&info)) {
      said.quote("reason", info.reason()).quote("domain", info.domain());
    } else if (detail.UnpackTo(&bad)) {
      std::string fields;
      for (auto& one : bad.field_violations()) fields += (fields.empty() ? "\"" : ", \"") + one.field() + '"';
      said.put("fields", '[' + fields + ']');
    }
  }
  return said;
}

Said many(Stub& stub) {
  auto message = request(8, 16);
  auto first = answered(stub, message);
  int calls = 1;
  bool same = true;
  for (; calls < 1000; calls++) {
    auto answer = answered(stub, message);
    same = same && answer.loss().data() == first.loss().data() &&
           answer.input_gradient().data() == first.input_gradient().data();
  }
  return told(first, floats(first.input_gradient())).put("calls", calls).put("same", same);
}

Said refusals(Stub& stub) {
  auto large = request(200, 128);
  std::set<int> codes;
  for (int i = 0; i < kRefusals; i++) {
    CrossEntropyResponse answer;
    codes.insert(call(stub, large, &answer).error_code());
  }
  if (codes.size() != 1) throw std::runtime_error("different codes");
  return unary(stub, 4, 5).put("code", *codes.begin());
}

Said drain(Stub& stub) {
  Evaluation evaluation(stub, kHalves);
  evaluation.half();
  pause();
  auto finished = evaluation.finish(2);
  CrossEntropyResponse answer;
  finished.put("refused", int(call(stub, request(4, 5), &answer).error_code()));
  pause();
  return finished.put("again", floats(answered(stub, request(4, 5), true).loss())[0]);
}

Said run(Stub& stub, const std::string& name) {
  if (name == "unary") return unary(stub, 4, 5);
  if (name == "large") return unary(stub, 4096, 1024);
  if (name == "stream") return Evaluation(stub, kWhole).finish(0);
  if (name == "error") return error(stub);
  if (name == "many") return many(stub);
  if (name == "refusals") return refusals(stub);
  if (name == "drain") return drain(stub);
  if (name == "deadline") {
    Evaluation evaluation(stub, kHalves, kDeadline);
    evaluation.half();
    return Said().put("code", evaluation.end());
  }
  if (name == "cancel") {
    Evaluation evaluation(stub, kHalves);
    evaluation.half();
    evaluation.context.TryCancel();
    int code = evaluation.end();
    return unary(stub, 4, 5).put("code", code);
  }
  if (name == "keepalive") {
    Evaluation evaluation(stub, kHalves);
    evaluation.half();
    pause();
    return evaluation.finish(2);
  }
  throw std::invalid_argument(name);
}

}  // namespace

int main(int, char** argv) {
  grpc::ChannelArguments options;
  options.SetMaxReceiveMessageSize(-1);
  if (std::string(argv[2]) == "keepalive") {
    options.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10000);
    options.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  }
  auto stub = LossService::NewStub(grpc::CreateCustomChannel(argv[1], grpc::InsecureChannelCredentials(), options));
  std::cout << run(*stub, argv[2]).line() << std::endl;
}
