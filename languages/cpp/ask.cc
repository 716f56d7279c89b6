// One call, alone and in a stream, by whom and to whom the arguments or the environment say.
// usage: ask ADDRESS [ca=FILE] [cert=FILE key=FILE] [token=TOKEN | token_file=FILE] [tls=true]
#include <cstdio>

#include "streams.h"

using namespace lossd;

int main(int argc, char** argv) try {
  Identity identity;
  for (int i = 2; i < argc; i++) {
    std::string one = argv[i], value = one.substr(one.find('=') + 1);
    if (one.rfind("ca=", 0) == 0) identity.ca = value;
    if (one.rfind("cert=", 0) == 0) identity.cert = value;
    if (one.rfind("key=", 0) == 0) identity.key = value;
    if (one.rfind("token=", 0) == 0) identity.token = value;
    if (one.rfind("token_file=", 0) == 0) identity.token_file = value;
    if (one == "tls=true") identity.tls = true;
  }
  auto stub = v1::LossService::NewStub(connect(argc > 1 ? argv[1] : "127.0.0.1:50051", identity));
  v1::CrossEntropyRequest request;
  *request.mutable_input() = tensor<float>({2, 0, -1, 0, 3, 0}, {2, 3});
  *request.mutable_target() = tensor<int64_t>({0, 1}, {2});
  auto response = call(&v1::LossService::Stub::CrossEntropy, *stub, request, std::chrono::seconds(3));
  auto streamed = evaluate_many(*stub, 1, [&](v1::Open& open, size_t) { *open.mutable_cross_entropy() = request; });
  std::printf("loss %.6f, streamed %.6f\n", scalar(response.loss()), scalar(streamed[0].cross_entropy().loss()));
} catch (const Error& error) {
  std::printf("%d %s %s\n", error.code, error.reason.c_str(), error.what());
  return 1;
} catch (const std::invalid_argument& error) {
  std::printf("%d INVALID %s\n", grpc::StatusCode::INVALID_ARGUMENT, error.what());
  return 1;
}
