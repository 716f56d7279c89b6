// Streams of lossd from C++17: large tensors in blocks, many small evaluations.
#pragma once
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>

#include "lossd.h"

namespace lossd {

// One thread writes while another reads. A client that writes everything first stops for ever once both
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

// Makes attempts at a stream, each with the time that is left, as long as nothing was answered and another may help: as for a
// call, its messages are made anew.
template <class Attempt> void repeat(std::chrono::milliseconds timeout, const bool& answered, Attempt attempt) {
  for (Retry retry(timeout);;) try {
      return attempt(retry.left());
    } catch (const Error& error) {
      if (answered) throw;
      retry.wait(error);
    }
}

// One evaluation in blocks of `items` of dimension 0. open: its request, with `streamed` tensors. block: fills in the
// tensors of items first … first + count − 1; from the first on again where the server refused it before it answered anything.
// answered: gets gradients and losses block by block, in the reader's thread.
inline v1::EvaluationResult evaluate_in_blocks(
    v1::LossService::Stub& stub, const v1::Open& open, int64_t total, int64_t items,
    const std::function<void(v1::Block&, int64_t first, int64_t count)>& block,
    const std::function<void(const v1::BlockResult&)>& answered,
    std::chrono::milliseconds timeout = std::chrono::seconds(300)) {
  std::optional<v1::EvaluationResult> result;
  bool heard = false;
  repeat(timeout, heard, [&](std::chrono::milliseconds left) {
    Stream stream(stub, left, [&](const v1::StreamResponse& message) {
      if (message.has_failure()) require(message.failure());
      heard = true;
      if (message.has_block()) answered(message.block());
      else if (message.has_result()) result = message.result();
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
  });
  if (!result) throw std::runtime_error("the stream ended without a result");
  return *result;
}

// `count` small evaluations on one stream, at most `window` of them unanswered. request: fills in the request of
// evaluation i; again, from the first on, where the server refused the stream before it answered any. The results are in the
// order of i, whatever order they came in; a failed one has `failure`.
inline std::vector<v1::EvaluationResult> evaluate_many(v1::LossService::Stub& stub, size_t count,
                                                       const std::function<void(v1::Open&, size_t i)>& request,
                                                       size_t window = 64,
                                                       std::chrono::milliseconds timeout = std::chrono::seconds(300)) {
  std::vector<v1::EvaluationResult> results(count);
  size_t answered = 0;
  bool heard = false;
  auto put = [&](v1::EvaluationResult result) {
    results.at(result.evaluation_id()) = std::move(result);
    answered++;
  };
  repeat(timeout, heard, [&](std::chrono::milliseconds left) {
    Stream stream(stub, left, [&](const v1::StreamResponse& message) {
      heard = true;
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
  });
  if (answered != count) throw std::runtime_error("the stream ended without some of the results");
  return results;
}

}  // namespace lossd
