// Servers of the tests', and what else they need.
#pragma once
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "lossd.h"

namespace lossd {

// A server that answers every second evaluation before the one before it, and loses those from `lost` on.
struct OtherOrder final : v1::LossService::Service {
  uint64_t lost = 1000;
  grpc::Status Stream(grpc::ServerContext*,
                      grpc::ServerReaderWriter<v1::StreamResponse, v1::StreamRequest>* stream) override {
    std::vector<uint64_t> waiting;
    for (v1::StreamRequest request; stream->Read(&request);) {
      waiting.push_back(request.opens().opens(0).evaluation_id());
      if (waiting.size() < 2) continue;
      for (auto id : {waiting[1], waiting[0]}) {
        v1::StreamResponse response;
        response.mutable_result()->set_evaluation_id(id);
        float loss = float(id);
        *response.mutable_result()->mutable_cross_entropy()->mutable_loss() = tensor(&loss, {});
        if (id < lost) stream->Write(response);
      }
      waiting.clear();
    }
    return grpc::Status::OK;
  }
};

// The answer to a message of a stream, if there is one: of loss 0, to each evaluation that has come whole.
inline void answer(const v1::StreamRequest& request, grpc::ServerReaderWriter<v1::StreamResponse, v1::StreamRequest>& out) {
  v1::StreamResponse response;
  for (const auto& open : request.opens().opens()) response.mutable_results()->add_results()->set_evaluation_id(open.evaluation_id());
  if (request.has_end()) response.mutable_result()->set_evaluation_id(request.end().evaluation_id());
  if (response.has_results() || response.has_result()) out.Write(response);
}

// A server that answers the first message of a stream and goes.
struct Gone final : v1::LossService::Service {
  int streams = 0;
  grpc::Status Stream(grpc::ServerContext*,
                      grpc::ServerReaderWriter<v1::StreamResponse, v1::StreamRequest>* stream) override {
    streams++;
    v1::StreamRequest request;
    stream->Read(&request);
    answer(request, *stream);
    return {grpc::StatusCode::UNAVAILABLE, "going away"};
  }
};

// A server that remembers what each call, and stream, showed of its caller.
struct Showing final : v1::LossService::Service {
  std::vector<std::string> shown;
  void remember(const grpc::ServerContext& context) {
    auto found = context.client_metadata().find("authorization");
    shown.push_back(found == context.client_metadata().end() ? "" : std::string(found->second.data(), found->second.size()));
  }
  grpc::Status CrossEntropy(grpc::ServerContext* context, const v1::CrossEntropyRequest*, v1::CrossEntropyResponse*) override {
    remember(*context);
    return grpc::Status::OK;
  }
  grpc::Status Stream(grpc::ServerContext* context,
                      grpc::ServerReaderWriter<v1::StreamResponse, v1::StreamRequest>* stream) override {
    remember(*context);
    for (v1::StreamRequest request; stream->Read(&request);) answer(request, *stream);
    return grpc::Status::OK;
  }
};

// A server that refuses the first two calls, streams after so many messages, and remembers what they announced.
struct Refusing final : v1::LossService::Service {
  grpc::Status refusal;
  int taken, calls = 0;
  std::string announced;
  explicit Refusing(grpc::Status refusal, int taken = 0) : refusal(std::move(refusal)), taken(taken) {}
  grpc::Status Stream(grpc::ServerContext*,
                      grpc::ServerReaderWriter<v1::StreamResponse, v1::StreamRequest>* stream) override {
    bool refuses = ++calls <= 2;
    v1::StreamRequest request;
    for (int i = 0; (!refuses || i < taken) && stream->Read(&request); i++)
      if (!refuses) answer(request, *stream);
    return refuses ? refusal : grpc::Status::OK;
  }
  grpc::Status CrossEntropy(grpc::ServerContext* context, const v1::CrossEntropyRequest*,
                            v1::CrossEntropyResponse* response) override {
    auto found = context->client_metadata().find("lossd-request-bytes");
    announced = found == context->client_metadata().end() ? "" : std::string(found->second.data(), found->second.size());
    if (++calls <= 2) return refusal;
    *response->mutable_loss() = tensor<float>({1}, {});
    return grpc::Status::OK;
  }
};

// What `ask` gives of a stub of a server with that service. by: who asks.
template <class Ask> auto served(grpc::Service& service, Ask ask, const Identity& by = {}) {
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  auto server = builder.BuildAndStart();
  auto other = v1::LossService::NewStub(connect("127.0.0.1:" + std::to_string(port), by));
  return ask(*other);
}

// A file that is gone with it.
struct TemporaryFile {
  const std::string path = std::filesystem::temp_directory_path() / ("lossd-" + std::to_string(getpid()));
  void write(const std::string& content) const { std::ofstream(path, std::ios::binary) << content; }
  ~TemporaryFile() { std::filesystem::remove(path); }
};

// RESOURCE_EXHAUSTED; seconds below 0: for good.
inline grpc::Status full(double seconds) {
  google::rpc::Status rich;
  if (seconds >= 0) {
    google::rpc::RetryInfo info;
    info.mutable_retry_delay()->set_nanos(int(1e9 * seconds));
    rich.add_details()->PackFrom(info);
  }
  return {grpc::StatusCode::RESOURCE_EXHAUSTED, "full", rich.SerializeAsString()};
}

// Why `connect` does not take it.
inline std::string refusal_of(const Identity& identity) {
  try {
    connect("127.0.0.1:1", identity);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

inline std::string output_of(const std::string& command) {
  std::string found;
  FILE* pipe = popen(command.c_str(), "r");
  for (int c; (c = std::fgetc(pipe)) != EOF;) found += char(c);
  return pclose(pipe) == 0 ? found : "it failed: " + found;
}

}  // namespace lossd
