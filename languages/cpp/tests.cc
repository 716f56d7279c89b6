// What can go wrong: errors, deadlines, large answers, streams that fail or answer in another order, a server that goes.
// usage: tests ADDRESS EXAMPLE
#include <cmath>
#include <cstdio>

#include "shared_memory.h"
#include "stand_ins.h"
#include "streams.h"

using namespace lossd;
using namespace std::string_literals;
using Stub = v1::LossService::Stub;
using grpc::StatusCode;

static int passed = 0, failed = 0;
static std::unique_ptr<Stub> stub;

void test(const char* fact, const std::function<bool()>& holds) {
  std::string wrong;
  try {
    if (!holds()) wrong = "it is not so";
  } catch (const std::exception& error) {
    wrong = error.what();
  }
  (wrong.empty() ? passed : failed)++;
  if (!wrong.empty()) std::printf("FAILED %s: %s\n", fact, wrong.c_str());
}

// The Error that is thrown.
Error error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  throw std::runtime_error("no error was thrown");
}

v1::CrossEntropyRequest zeros(int64_t rows, int64_t classes, bool gradient = true) {
  v1::CrossEntropyRequest request;
  *request.mutable_input() = tensor(std::vector<float>(rows * classes), {rows, classes});
  *request.mutable_target() = tensor(std::vector<int64_t>(rows), {rows});
  if (gradient) request.add_gradients(v1::GRADIENT_INPUT);
  return request;
}

// 1000 rows of 100 zeros; row `wrong` has a class that there is not, the block from item `broken` on cannot be made.
v1::EvaluationResult in_blocks(int64_t wrong, const std::function<void(const v1::BlockResult&)>& answered,
                               int64_t broken = -1) {
  std::vector<int64_t> labels(1000);
  if (wrong >= 0) labels[wrong] = 100;
  v1::Open open;
  *open.mutable_cross_entropy() = zeros(1000, 100);
  open.mutable_cross_entropy()->set_normalizer(1000);  // of a gradient whose targets are streamed
  open.mutable_cross_entropy()->mutable_input()->mutable_streamed();
  open.mutable_cross_entropy()->mutable_target()->mutable_streamed();
  std::vector<float> logits(1000 * 100);
  return evaluate_in_blocks(*stub, open, 1000, 64, [&](v1::Block& block, int64_t first, int64_t count) {
    if (first == broken) throw std::out_of_range("mine");
    *block.mutable_input() = tensor(logits.data() + first * 100, {count, 100});
    *block.mutable_target() = tensor(labels.data() + first, {count});
  }, answered);
}

float ask_of(Refusing& service, std::chrono::milliseconds timeout = std::chrono::seconds(10)) {
  return served(service, [&](Stub& other) {
    return scalar(call(&Stub::CrossEntropy, other, zeros(1, 2), timeout).loss());
  });
}

std::vector<v1::EvaluationResult> many_from(grpc::Service& service, size_t count) {
  return served(service, [&](Stub& other) {
    return evaluate_many(other, count, [](v1::Open& open, size_t) { *open.mutable_cross_entropy() = zeros(1, 2, false); });
  });
}

// One evaluation in three blocks, of a server of the tests'. made: the first items of the blocks that were made.
v1::EvaluationResult three_blocks_from(grpc::Service& service, std::vector<int64_t>& made) {
  return served(service, [&](Stub& other) {
    auto block = [&](v1::Block&, int64_t first, int64_t) { made.push_back(first); };
    return evaluate_in_blocks(other, v1::Open(), 3, 1, block, [](const v1::BlockResult&) {});
  });
}

int main(int, char** argv) {
  const std::string address = argv[1];
  stub = v1::LossService::NewStub(connect(address));
  test("the example prints what it should", [&] {
    auto said = output_of(std::string(argv[2]) + " " + address);
    for (auto part : {"loss 0.132384, first gradient -0.078103\n", "CLASS_OUT_OF_RANGE, field target: target[0] = 7",
                      "the deadline is over\n", "loss of 20,000 rows 8.90846, sum of |gradient| 1.995980\n",
                      "1000 results, 1 failed, the last loss 0.551869\n", "in shared memory 8.920190, a gradient -0.000"})
      if (said.find(part) == std::string::npos) throw std::runtime_error(said);
    return true;
  });
  test("an empty mean is NaN", [] {
    return std::isnan(scalar(call(&Stub::CrossEntropy, *stub, zeros(0, 3)).loss()));
  });
  test("NaN in a row is NaN", [] {
    v1::EntropyRequest request;
    *request.mutable_input() = tensor<float>({NAN, 1}, {1, 2});
    request.set_kind(v1::KIND_LOGITS);
    return std::isnan(scalar(call(&Stub::Entropy, *stub, request).loss()));
  });
  test("a shape with another number of elements is refused before it is sent", [] {
    try {
      tensor<float>({1, 2, 3}, {2, 2});
    } catch (const std::invalid_argument&) {
      return true;
    }
    return false;
  });
  test("float64 read as float32 is refused", [] {
    try {
      values<float>(tensor<double>({1}, {1}));
    } catch (const std::invalid_argument&) {
      return true;
    }
    return false;
  });
  test("argmax is int64, correct is bool, a float16 gradient is its bits", [] {
    auto request = zeros(2, 3);
    uint16_t halves[] = {0, 0x3C00, 0, 0, 0, 0};  // 0, 1, 0
    *request.mutable_input() = tensor(halves, {2, 3}, v1::DATA_TYPE_FLOAT16);
    request.add_outputs(v1::OUTPUT_ARGMAX);
    request.add_outputs(v1::OUTPUT_CORRECT);
    auto response = call(&Stub::CrossEntropy, *stub, request);
    return values<int64_t>(response.outputs().argmax()) == std::vector<int64_t>{1, 0} &&
           values<uint8_t>(response.outputs().correct(), v1::DATA_TYPE_BOOL) == std::vector<uint8_t>{0, 1} &&
           values<uint16_t>(response.input_gradient(), v1::DATA_TYPE_FLOAT16).size() == 6;
  });
  test("a bool is one byte", [] {
    bool bits[] = {true, false};
    return tensor(bits, {2}).data() == std::string("\1\0", 2);
  });
  test("a gradient of 16 MB arrives", [] {
    auto response = call(&Stub::CrossEntropy, *stub, zeros(4000, 1000));
    return response.input_gradient().data().size() == 16'000'000;
  });
  test("without `connect` it would not: every gRPC library takes 4 MiB", [&] {
    auto plain = v1::LossService::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
    return error_of([&] { call(&Stub::CrossEntropy, *plain, zeros(4000, 1000)); }).code == StatusCode::RESOURCE_EXHAUSTED;
  });
  test("20 MB in one message are refused", [] {
    auto error = error_of([] { call(&Stub::CrossEntropy, *stub, zeros(5000, 1000)); });
    return error.code == StatusCode::RESOURCE_EXHAUSTED;
  });
  test("a deadline ends a stream that stands still", [] {
    Stream stream(*stub, std::chrono::milliseconds(50), [](const v1::StreamResponse&) {});
    stream.wait([] { return false; });
    return error_of([&] { stream.finish(); }).code == StatusCode::DEADLINE_EXCEEDED;
  });
  test("where nothing listens a call is UNAVAILABLE", [] {
    auto nobody = v1::LossService::NewStub(connect("127.0.0.1:1"));
    auto soon = std::chrono::milliseconds(300);
    return error_of([&] { call(&Stub::CrossEntropy, *nobody, zeros(1, 2), soon); }).code == StatusCode::UNAVAILABLE;
  });
  test("a call, and a stream, shows what the token's file holds then; one that holds none any more changes nothing", [] {
    TemporaryFile file;
    file.write("first\n");
    Identity by;
    by.token_file = file.path;
    Showing service;
    served(service, [&](Stub& other) {
      for (auto content : {"first\n", "other", "", "one\ntwo", "/", " last==\r\n"}) {
        if (content == "/"s) std::filesystem::remove(file.path);
        else file.write(content);
        call(&Stub::CrossEntropy, other, zeros(1, 2));
        evaluate_many(other, 1, [](v1::Open& open, size_t) { *open.mutable_cross_entropy() = zeros(1, 2); });
      }
      return true;
    }, by);
    std::vector<std::string> expected;
    for (auto one : {"first", "other", "other", "other", "other", "last=="}) expected.insert(expected.end(), 2, "Bearer "s + one);
    return service.shown == expected;
  });
  test("a file that holds no token is named, and not what it holds; a token and its file are too many", [] {
    TemporaryFile file;
    Identity by;
    by.token_file = file.path;
    bool told = refusal_of(by) == "token_file = " + file.path + " cannot be read";
    for (auto content : {""s, "\n"s, "secret\n2"s, "=secret"s, "secret\0"s, std::string(20000, 's')}) {
      file.write(content);
      auto what = content.size() < 2 ? " is empty" : " holds something else than one token";
      told = told && refusal_of(by) == "token_file = " + file.path + what;
    }
    file.write("held");
    by.token = "given";
    return told && refusal_of(by).find("not both") != std::string::npos;
  });
  test("a server that is full for now, or going, is asked again, with the request's size", [] {
    for (auto refusal : {full(0.02), grpc::Status(StatusCode::UNAVAILABLE, "going away")}) {
      Refusing service(refusal);
      if (ask_of(service) != 1 || service.calls != 3) return false;
      if (service.announced != std::to_string(zeros(1, 2).ByteSizeLong())) return false;
    }
    return true;
  });
  test("a refusal for good is not repeated, nor one that outlasts the deadline", [] {
    Refusing good(full(-1)), late(full(0.9));
    auto code = error_of([&] { ask_of(good); }).code;
    auto other = error_of([&] { ask_of(late, std::chrono::milliseconds(500)); });
    return code == StatusCode::RESOURCE_EXHAUSTED && good.calls == 1 && late.calls == 1 && other.retry_after_s > 0.8;
  });
  test("blocks give every row its gradient", [] {
    int64_t rows = 0;
    auto loss = in_blocks(-1, [&](const v1::BlockResult& block) { rows += block.input_gradient().shape(0); });
    return rows == 1000 && std::fabs(scalar(loss.cross_entropy().loss()) - std::log(100)) < 1e-5;
  });
  test("a class that there is not, in a middle block, is an Error with reason and field", [] {
    auto error = error_of([] { in_blocks(500, [](const v1::BlockResult&) {}); });
    return error.code == StatusCode::INVALID_ARGUMENT && error.reason == "CLASS_OUT_OF_RANGE" && error.field == "target";
  });
  test("what the reader throws ends the stream", [] {
    try {
      in_blocks(-1, [](const v1::BlockResult&) { throw std::out_of_range("mine"); });
    } catch (const std::out_of_range&) {
      return true;
    }
    return false;
  });
  test("what the maker of blocks throws ends the stream", [] {
    try {
      in_blocks(-1, [](const v1::BlockResult&) {}, 128);
    } catch (const std::out_of_range&) {
      return true;
    }
    return false;
  });
  test("results in another order stand at their places", [] {
    OtherOrder service;
    auto results = many_from(service, 500);
    for (size_t i = 0; i < results.size(); i++)
      if (scalar(results[i].cross_entropy().loss()) != float(i)) return false;
    return results.size() == 500;
  });
  test("results that never came are not taken for zeros", [] {
    OtherOrder service;
    service.lost = 498;
    try {
      many_from(service, 500);
    } catch (const std::runtime_error&) {
      return true;
    }
    return false;
  });
  test("a server that goes in the middle of a stream is UNAVAILABLE, and is not asked again", [] {
    Gone service;
    return error_of([&] { many_from(service, 500); }).code == StatusCode::UNAVAILABLE && service.streams == 1;
  });
  test("a stream that is refused before anything is answered begins again, whatever was taken of it", [] {
    for (auto refusal : {full(0.02), grpc::Status(StatusCode::UNAVAILABLE, "going away")})
      for (int taken : {0, 1}) {
        Refusing many(refusal, taken), one(refusal, taken);
        std::vector<int64_t> made;
        if (many_from(many, 5).size() != 5 || many.calls != 3) return false;
        if (three_blocks_from(one, made).evaluation_id() != 0 || one.calls != 3) return false;
        if (made.size() < 3 || std::vector<int64_t>(made.end() - 3, made.end()) != std::vector<int64_t>{0, 1, 2}) return false;
      }
    return true;
  });
  test("a stream that is refused for good is not repeated", [] {
    Refusing many(full(-1)), one(full(-1));
    std::vector<int64_t> made;
    auto code = error_of([&] { many_from(many, 5); }).code, other = error_of([&] { three_blocks_from(one, made); }).code;
    return code == StatusCode::RESOURCE_EXHAUSTED && other == code && many.calls == 1 && one.calls == 1;
  });
  test("a gradient in shared memory is that of a message", [] {
    SharedMemory memory(*stub, 8192);
    auto request = zeros(8, 16);
    auto sent = call(&Stub::CrossEntropy, *stub, request);
    *request.mutable_input() = memory.tensor<float>(0, {8, 16});
    auto* placement = request.add_placements();
    placement->set_gradient(v1::GRADIENT_INPUT);
    *placement->mutable_shared_memory() = memory.range(4096, 512);
    auto there = call(&Stub::CrossEntropy, *stub, request);
    return !std::memcmp(memory.at<char>(4096), sent.input_gradient().data().data(), 512) &&
           there.input_gradient().has_shared_memory() && there.loss().data() == sent.loss().data();
  });
  test("a token is of no use once its memory is gone", [] {
    auto request = zeros(8, 16);
    {
      SharedMemory memory(*stub, 4096);
      *request.mutable_input() = memory.tensor<float>(0, {8, 16});
    }
    for (int i = 0; i < 1000; i++) try {  // the server notices the closed socket a moment later
        call(&Stub::CrossEntropy, *stub, request);
      } catch (const Error& error) {
        return error.reason == "UNKNOWN_REGION";
      }
    return false;
  });
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed || !passed;
}
