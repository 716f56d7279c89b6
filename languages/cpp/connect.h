// Where a server is, and who asks: TLS, a certificate of the client's own, a token.
#pragma once
#include <grpcpp/grpcpp.h>
#include <grpcpp/support/client_interceptor.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace lossd {

// ca: the authorities that may have signed the server's certificate; cert, key: the client's own; files, PEM. token: shown with
// every call; token_file: in its place, the file that holds it, read for every call, so that it may be replaced. What is empty is
// LOSSD_CA, LOSSD_CERT and LOSSD_KEY, and, where both are, LOSSD_TOKEN or LOSSD_TOKEN_FILE. tls: true where there is a ca or a cert.
struct Identity {
  std::string ca, cert, key, token, token_file;
  bool tls = false;
};

// What to give, where gRPC's words or the server's reason tell it: the end of a sentence.
inline std::string advice(const std::string& words, const std::string& reason) {
  auto says = [&](const char* part) { return words.find(part) != std::string::npos; };
  if (reason == "NO_CREDENTIALS") return ": give token or token_file (LOSSD_TOKEN, LOSSD_TOKEN_FILE), or cert and key";
  if (reason == "UNKNOWN_TOKEN")
    return ": does token or token_file (LOSSD_TOKEN, LOSSD_TOKEN_FILE) hold what `lossd token` printed?";
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

// The token in a file. std::invalid_argument names the file, and not what it holds.
inline std::string token_in(const std::string& path) {
  auto refuse = [&](const char* what) { throw std::invalid_argument("token_file = " + path + what); };
  const auto letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~+/-", blanks = " \t\r\n\f\v";
  std::string content(16385, '\0');  // more is no token: a header would not take it
  std::ifstream file(path, std::ios::binary);
  file.read(content.data(), content.size());
  if (!file.is_open() || file.bad()) refuse(" cannot be read");
  content.resize(file.gcount());
  auto first = content.find_first_not_of(blanks);
  if (first == std::string::npos) refuse(" is empty");
  auto token = content.substr(first, content.find_last_not_of(blanks) + 1 - first);
  auto end = token.find_first_not_of(letters);  // then come = alone: RFC 6750, 2.1
  if (content.size() > 16384 || end == 0 || token.find_first_not_of('=', std::min(end, token.size())) != std::string::npos)
    refuse(" holds something else than one token");
  return token;
}

// A token, or the file that holds it.
class Token {
 public:
  Token(const std::string& token, std::string file) : file_(std::move(file)), last_(file_.empty() ? token : token_in(file_)) {}
  // As the file has it now. To ask whether that has changed would be wrong where it does twice within the clock's tick.
  std::string now() {
    std::lock_guard lock(mutex_);
    if (!file_.empty()) try {
        last_ = token_in(file_);
      } catch (const std::invalid_argument&) {
        // It was read before: whoever replaces the file may leave it empty, or away, for a moment.
      }
    return last_;
  }

 private:
  const std::string file_;
  std::mutex mutex_;
  std::string last_;
};

// Shows the token with every call, of a plain connection too: gRPC's own way is for TLS alone.
class ShowToken : public grpc::experimental::Interceptor, public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  explicit ShowToken(std::shared_ptr<Token> token) : token_(std::move(token)) {}
  grpc::experimental::Interceptor* CreateClientInterceptor(grpc::experimental::ClientRpcInfo*) override {
    return new ShowToken(*this);
  }
  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(grpc::experimental::InterceptionHookPoints::PRE_SEND_INITIAL_METADATA))
      methods->GetSendInitialMetadata()->emplace("authorization", "Bearer " + token_->now());
    methods->Proceed();
  }

 private:
  const std::shared_ptr<Token> token_;
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
  if (given.token.empty() && given.token_file.empty()) {
    given.token = internal::from_environment("", "LOSSD_TOKEN");
    given.token_file = internal::from_environment("", "LOSSD_TOKEN_FILE");
  }
  bool shows = !given.token.empty() || !given.token_file.empty();
  given.tls = given.tls || !given.ca.empty() || !given.cert.empty();
  if (given.cert.empty() != given.key.empty()) throw std::invalid_argument("cert and key go together: give both");
  if (!given.token.empty() && !given.token_file.empty())
    throw std::invalid_argument("give token or token_file (LOSSD_TOKEN or LOSSD_TOKEN_FILE), not both");
  if (shows && !given.tls && !internal::is_local(address))
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
  if (shows)
    shown.push_back(std::make_unique<internal::ShowToken>(std::make_shared<internal::Token>(given.token, given.token_file)));
  return grpc::experimental::CreateCustomChannelWithInterceptors(address, security, arguments, std::move(shown));
}

}  // namespace lossd
