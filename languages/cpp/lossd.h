// lossd from C++17: tensors, errors, large tensors in blocks, many small evaluations. Copy it, or what you need of it.
#pragma once
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "lossd/v1/service.grpc.pb.h"

namespace lossd {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "elements are little-endian on the wire: swap their bytes here");
using Shape = std::vector<int64_t>;

// ---- Tensors: dense, in C order. float16, bfloat16 and 8-bit floats are uint16_t and uint8_t, with the dtype named.

template <class T> constexpr v1::DataType dtype_of() {
  if constexpr (std::is_same_v<T, float>) return v1::DATA_TYPE_FLOAT32;
  else if constexpr (std::is_same_v<T, double>) return v1::DATA_TYPE_FLOAT64;
  else if constexpr (std::is_same_v<T, bool>) return v1::DATA_TYPE_BOOL;
  else if constexpr (std::is_same_v<T, uint8_t>) return v1::DATA_TYPE_UINT8;
  else if constexpr (std::is_same_v<T, int8_t>) return v1::DATA_TYPE_INT8;
  else if constexpr (std::is_same_v<T, int16_t>) return v1::DATA_TYPE_INT16;
  else if constexpr (std::is_same_v<T, int32_t>) return v1::DATA_TYPE_INT32;
  else {
    static_assert(std::is_same_v<T, int64_t>, "no dtype of lossd");
    return v1::DATA_TYPE_INT64;
  }
}

inline size_t elements(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), size_t{1}, [](size_t n, int64_t d) { return n * size_t(d); });
}

// `data` has as many elements as `shape` says; {} is a scalar.
template <class T> v1::Tensor tensor(const T* data, const Shape& shape, v1::DataType dtype = dtype_of<T>()) {
  v1::Tensor t;
  t.set_dtype(dtype);
  for (int64_t d : shape) t.add_shape(d);
  t.set_data(data, elements(shape) * sizeof(T));
  return t;
}

template <class T> v1::Tensor tensor(const std::vector<T>& values, const Shape& shape) {
  if (values.size() != elements(shape)) throw std::invalid_argument("the shape has another number of elements");
  return tensor(values.data(), shape);
}

// The elements, copied: those of a message may lie at any address. Bools are values<uint8_t>(t, v1::DATA_TYPE_BOOL).
template <class T> std::vector<T> values(const v1::Tensor& t, v1::DataType dtype = dtype_of<T>()) {
  static_assert(!std::is_same_v<T, bool>, "std::vector<bool> has no elements in memory: take uint8_t");
  if (t.dtype() != dtype) throw std::invalid_argument("the tensor is " + v1::DataType_Name(t.dtype()));
  std::vector<T> found(t.data().size() / sizeof(T));
  std::memcpy(found.data(), t.data().data(), t.data().size());
  return found;
}

inline float scalar(const v1::Tensor& t) {
  auto found = values<float>(t);
  if (found.size() != 1) throw std::invalid_argument("the tensor is no scalar");
  return found[0];
}

// ---- Errors: a status, with a reason for programs and the field at fault.

struct Error : std::runtime_error {
  grpc::StatusCode code;
  std::string reason, field;  // "" where nobody said: a server that cannot be reached gives no reason
  double retry_after_s = -1;  // what the server asked to wait; below 0 where retrying will not help

  template <class Details>
  Error(grpc::StatusCode code, const std::string& message, const Details& details)
      : std::runtime_error(message), code(code) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad;
    google::rpc::RetryInfo retry;
    for (const google::protobuf::Any& one : details) {
      if (one.UnpackTo(&info)) reason = info.reason();
      if (one.UnpackTo(&bad) && bad.field_violations_size()) field = bad.field_violations(0).field();
      if (one.UnpackTo(&retry)) retry_after_s = retry.retry_delay().seconds() + retry.retry_delay().nanos() / 1e9;
    }
  }
};

inline void require(const grpc::Status& status) {
  if (status.ok()) return;
  google::rpc::Status rich;
  rich.ParseFromString(status.error_details());
  throw Error(status.error_code(), status.error_message(), rich.details());
}

inline void require(const v1::Failure& failure) {  // one evaluation of a stream failed, and no other
  throw Error(static_cast<grpc::StatusCode>(failure.code()), failure.message(), failure.details());
}

// ---- Calls

// Every gRPC library refuses answers above 4 MiB unless told otherwise; gradients are as large as their tensors.
inline std::shared_ptr<grpc::Channel> connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

inline void set_timeout(grpc::ClientContext& context, std::chrono::milliseconds timeout) {
  context.set_deadline(std::chrono::system_clock::now() + timeout);
}

// call(&v1::LossService::Stub::CrossEntropy, *stub, request): the response, or an Error.
template <class Request, class Response>
Response call(grpc::Status (v1::LossService::Stub::*method)(grpc::ClientContext*, const Request&, Response*),
              v1::LossService::Stub& stub, const Request& request,
              std::chrono::milliseconds timeout = std::chrono::seconds(60)) {
  grpc::ClientContext context;
  set_timeout(context, timeout);
  Response response;
  require((stub.*method)(&context, request, &response));
  return response;
}

// ---- Stream: one thread writes while another reads. A client that writes everything first stops for ever once both
// directions are full. `Write` returns when there is room on the wire, so no more than a block or two is in memory.

class Stream {
 public:
  using Read = std::function<void(const v1::StreamResponse&)>;

  // read: called in another thread, for every message. It may throw: that ends the stream, and `finish` throws it.
  Stream(v1::LossService::Stub& stub, std::chrono::milliseconds timeout, Read read) {
    set_timeout(context_, timeout);
    stream_ = stub.Stream(&context_);
    reader_ = std::thread([this, read = std::move(read)] {
      for (v1::StreamResponse message; stream_->Read(&message);) {
        std::lock_guard lock(mutex_);
        try {
          if (!thrown_) read(message);
        } catch (...) {
          thrown_ = std::current_exception();
          context_.TryCancel();
        }
        changed_.notify_one();
      }
      std::lock_guard lock(mutex_);
      ended_ = true;
      changed_.notify_one();
    });
  }
  ~Stream() {
    if (!reader_.joinable()) return;
    context_.TryCancel();
    reader_.join();
    stream_->Finish();
  }
  // False: the stream has ended, and `finish` says why.
  bool write(const v1::StreamRequest& message) { return stream_->Write(message); }
  // Waits until `ready`, which is asked after every message, or until the stream has ended.
  template <class Ready> void wait(Ready ready) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended_ || ready(); });
  }
  // Waits for the answers of what was written. Throws the stream's own Error, or what `read` threw.
  void finish() {
    stream_->WritesDone();
    reader_.join();
    auto status = stream_->Finish();
    if (thrown_) std::rethrow_exception(thrown_);
    require(status);
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::StreamRequest, v1::StreamResponse>> stream_;
  std::thread reader_;
  std::mutex mutex_;  // held while `read` runs
  std::condition_variable changed_;
  std::exception_ptr thrown_;
  bool ended_ = false;
};

// One evaluation in blocks of `items` of dimension 0. open: its request, with `streamed` tensors. block: fills in the
// tensors of items first … first + count − 1. answered: gets gradients and losses block by block, in the reader's thread.
inline v1::EvaluationResult evaluate_in_blocks(
    v1::LossService::Stub& stub, const v1::Open& open, int64_t total, int64_t items,
    const std::function<void(v1::Block&, int64_t first, int64_t count)>& block,
    const std::function<void(const v1::BlockResult&)>& answered,
    std::chrono::milliseconds timeout = std::chrono::seconds(300)) {
  std::optional<v1::EvaluationResult> result;
  Stream stream(stub, timeout, [&](const v1::StreamResponse& message) {
    if (message.has_block()) answered(message.block());
    else if (message.has_result()) result = message.result();
    else if (message.has_failure()) require(message.failure());
  });
  v1::StreamRequest message;
  *message.mutable_open() = open;
  bool more = stream.write(message);
  for (int64_t first = 0; more && first < total; first += items) {
    auto* one = message.mutable_block();
    one->Clear();
    one->set_evaluation_id(open.evaluation_id());
    one->set_first_item(first);
    block(*one, first, std::min(items, total - first));
    more = stream.write(message);
  }
  message.mutable_end()->set_evaluation_id(open.evaluation_id());
  if (more) stream.write(message);
  stream.finish();
  if (!result) throw std::runtime_error("the stream ended without a result");
  return *result;
}

// `count` small evaluations on one stream, at most `window` of them unanswered. request: fills in the request of
// evaluation i. The results are in the order of i, whatever order they came in; a failed one has `failure`.
inline std::vector<v1::EvaluationResult> evaluate_many(v1::LossService::Stub& stub, size_t count,
                                                       const std::function<void(v1::Open&, size_t i)>& request,
                                                       size_t window = 64,
                                                       std::chrono::milliseconds timeout = std::chrono::seconds(300)) {
  std::vector<v1::EvaluationResult> results(count);
  size_t answered = 0;
  auto put = [&](v1::EvaluationResult result) {
    results.at(result.evaluation_id()) = std::move(result);
    answered++;
  };
  Stream stream(stub, timeout, [&](const v1::StreamResponse& message) {
    for (const auto& one : message.results().results()) put(one);  // the server joins results that are ready together
    if (message.has_result()) put(message.result());
    if (!message.has_failure()) return;
    v1::EvaluationResult failed;
    failed.set_evaluation_id(message.failure().evaluation_id());
    *failed.mutable_failure() = message.failure();
    put(std::move(failed));
  });
  v1::StreamRequest message;
  for (size_t i = 0; i < count; i++) {
    stream.wait([&] { return i - answered < window; });
    auto* open = message.mutable_opens();
    open->Clear();
    open->add_opens()->set_evaluation_id(i);
    request(*open->mutable_opens(0), i);
    if (!stream.write(message)) break;
  }
  stream.finish();
  if (answered != count) throw std::runtime_error("the stream ended without some of the results");
  return results;
}

}  // namespace lossd
