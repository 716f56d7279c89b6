// lossd from C++17: tensors, errors, calls; streams.h has large tensors in blocks and many small evaluations. Copy them, or
// what you need of them.
#pragma once
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "connect.h"
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

inline Error failure_of(const grpc::Status& status) {
  google::rpc::Status rich;
  rich.ParseFromString(status.error_details());
  Error plain(status.error_code(), status.error_message(), rich.details());
  return Error(plain.code, plain.what() + advice(plain.what(), plain.reason), rich.details());
}

inline void require(const grpc::Status& status) {
  if (!status.ok()) throw failure_of(status);
}

inline void require(const v1::Failure& failure) {  // one evaluation of a stream failed, and no other
  throw Error(static_cast<grpc::StatusCode>(failure.code()), failure.message(), failure.details());
}

// ---- Calls

// When a call is repeated: losses change nothing, so every one may be. UNAVAILABLE is, for `patience`, in which a server starts
// anew; RESOURCE_EXHAUSTED where the server says after how long; until the deadline.
class Retry {
 public:
  using Clock = std::chrono::system_clock;
  const Clock::time_point end;
  explicit Retry(std::chrono::milliseconds timeout, std::chrono::milliseconds patience = std::chrono::seconds(5))
      : end(Clock::now() + timeout), away_(std::min(end, Clock::now() + patience)) {}
  std::chrono::milliseconds left() const { return std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()); }
  // Waits before the next attempt. Throws the error where there is none.
  void wait(const Error& error) {
    bool away = error.code == grpc::UNAVAILABLE;
    if (!away && !(error.code == grpc::RESOURCE_EXHAUSTED && error.retry_after_s >= 0)) throw error;
    std::uniform_real_distribution<double> jitter(0.8, 1.2);
    double wait_s = std::max(next_s_, error.retry_after_s) * jitter(random_);
    next_s_ = std::min(2 * next_s_, 2.0);
    auto wait = std::chrono::microseconds(int64_t(1e6 * wait_s));
    if (Clock::now() + wait >= (away ? away_ : end)) throw error;
    std::this_thread::sleep_for(wait);
  }

 private:
  const Clock::time_point away_;
  double next_s_ = 0.05;
  std::minstd_rand random_{std::random_device{}()};
};

inline void set_timeout(grpc::ClientContext& context, std::chrono::milliseconds timeout) {
  context.set_deadline(std::chrono::system_clock::now() + timeout);
}

// call(&v1::LossService::Stub::CrossEntropy, *stub, request): the response, or an Error. It is repeated where that may help. A
// full server refuses it by the size that it announces, before it is sent.
template <class Request, class Response>
Response call(grpc::Status (v1::LossService::Stub::*method)(grpc::ClientContext*, const Request&, Response*),
              v1::LossService::Stub& stub, const Request& request,
              std::chrono::milliseconds timeout = std::chrono::seconds(60)) {
  for (Retry retry(timeout);;) {
    grpc::ClientContext context;
    context.set_deadline(retry.end);
    context.AddMetadata("lossd-request-bytes", std::to_string(request.ByteSizeLong()));
    Response response;
    grpc::Status status = (stub.*method)(&context, request, &response);
    if (status.ok()) return response;
    retry.wait(failure_of(status));
  }
}

}  // namespace lossd
