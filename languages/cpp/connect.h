// Where a server is, and who asks: TLS, a certificate of the client's own, a token.
#pragma once
#include <grpcpp/grpcpp.h>
#include <grpcpp/support/client_interceptor.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace lossd {

// ca: the authorities that may have signed the server's certificate; cert, key: the client's own; files, PEM. token: shown with
// every call. What is empty is LOSSD_CA, LOSSD_CERT, LOSSD_KEY and LOSSD_TOKEN. tls: true where there is a ca or a cert.
struct Identity {
  std::string ca, cert, key, token;
  bool tls = false;
};

// What to give, where gRPC's words or the server's reason tell it: the end of a sentence.
inline std::string advice(const std::string& words, const std::string& reason) {
  auto says = [&](const char* part) { return words.find(part) != std::string::npos; };
  if (reason == "NO_CREDENTIALS") return ": give token (LOSSD_TOKEN), or cert and key";
  if (reason == "UNKNOWN_TOKEN") return ": is token (LOSSD_TOKEN) what `lossd token` printed?";
  if (says("certificate verify failed")) return ": give ca (LOSSD_CA), the authority that signed the server's certificate";
  if (says("wrong version number")) return ": the server has no TLS, give neither tls, ca nor cert";
  if (says("is not in peer certificate")) return ": the server's certificate is for another host, use a name that it has";
  if (says("Socket closed") || says("reset by peer")) return ": does the server want TLS (ca, tls), or a certificate (cert and key)?";
  return "";
}

namespace internal {

inline std::string from_environment(const std::string& given, const char* variable) {
  const char* found = given.empty() ? std::getenv(variable) : nullptr;
  return found ? found : given;
}

inline std::string pem(const char* name, const std::string& path) {
  if (path.empty()) return "";
  std::ifstream file(path, std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(file), {}};
  if (!file || content.find("-----BEGIN ") == std::string::npos)
    throw std::invalid_argument(std::string(name) + " = " + path + " cannot be read, or is not PEM");
  return content;
}

// On this host for certain.
inline bool is_local(const std::string& address) {
  for (const char* start : {"unix:", "localhost:", "127.", "[::1]:"})
    if (address.rfind(start, 0) == 0) return true;
  return false;
}

// Shows the token with every call, of a plain connection too: gRPC's own way is for TLS alone.
class ShowToken : public grpc::experimental::Interceptor, public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  explicit ShowToken(std::string token) : authorization_("Bearer " + std::move(token)) {}
  grpc::experimental::Interceptor* CreateClientInterceptor(grpc::experimental::ClientRpcInfo*) override {
    return new ShowToken(*this);
  }
  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(grpc::experimental::InterceptionHookPoints::PRE_SEND_INITIAL_METADATA))
      methods->GetSendInitialMetadata()->emplace("authorization", authorization_);
    methods->Proceed();
  }

 private:
  std::string authorization_;
};

}  // namespace internal

// std::invalid_argument names what does not fit together. Every gRPC library refuses answers above 4 MiB unless told otherwise;
// gradients are as large as their tensors.
inline std::shared_ptr<grpc::Channel> connect(const std::string& address, Identity given = {}) {
  bool files = address.rfind("unix:", 0) != 0;  // a Unix socket has no TLS
  auto named = [&](std::string& value, const char* variable) {
    if (files) value = internal::from_environment(value, variable);
  };
  named(given.ca, "LOSSD_CA");
  named(given.cert, "LOSSD_CERT");
  named(given.key, "LOSSD_KEY");
  given.token = internal::from_environment(given.token, "LOSSD_TOKEN");
  given.tls = given.tls || !given.ca.empty() || !given.cert.empty();
  if (given.cert.empty() != given.key.empty()) throw std::invalid_argument("cert and key go together: give both");
  if (!given.token.empty() && !given.tls && !internal::is_local(address))
    throw std::invalid_argument("a token goes to " + address + " by TLS only: give tls or ca");
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetInt("grpc.enable_retries", 0);  // `call` repeats: it sees what the server asks to wait
  arguments.SetInt("grpc.initial_reconnect_backoff_ms", 100);
  arguments.SetInt("grpc.max_reconnect_backoff_ms", 2000);
  auto security = grpc::InsecureChannelCredentials();
  if (given.tls)
    security = grpc::SslCredentials({internal::pem("ca", given.ca), internal::pem("key", given.key), internal::pem("cert", given.cert)});
  std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>> shown;
  if (!given.token.empty()) shown.push_back(std::make_unique<internal::ShowToken>(given.token));
  return grpc::experimental::CreateCustomChannelWithInterceptors(address, security, arguments, std::move(shown));
}

}  // namespace lossd
