// Every way to ask lossd from C++. usage: example 127.0.0.1:50051
#include <cmath>
#include <cstdio>

#include "shared_memory.h"
#include "streams.h"

using namespace lossd;
using Stub = v1::LossService::Stub;

void one_call(Stub& stub) {
  v1::CrossEntropyRequest request;
  *request.mutable_input() = tensor<float>({2, 0, -1, 0, 3, 0}, {2, 3});
  *request.mutable_target() = tensor<int64_t>({0, 1}, {2});
  request.add_gradients(v1::GRADIENT_INPUT);
  auto response = call(&Stub::CrossEntropy, stub, request, std::chrono::seconds(5));
  std::printf("loss %.6f, first gradient %.6f\n", scalar(response.loss()), values<float>(response.input_gradient())[0]);
}

void an_error(Stub& stub) {
  v1::CrossEntropyRequest request;
  *request.mutable_input() = tensor<float>({2, 0, -1}, {1, 3});
  *request.mutable_target() = tensor<int64_t>({7}, {1});
  try {
    call(&Stub::CrossEntropy, stub, request);
  } catch (const Error& error) {
    std::printf("%s, field %s: %s\n", error.reason.c_str(), error.field.c_str(), error.what());
  }
}

void a_deadline(Stub& stub) {
  std::vector<float> logits(3'000'000);
  v1::EntropyRequest request;
  *request.mutable_input() = tensor(logits, {3000, 1000});
  request.set_kind(v1::KIND_LOGITS);
  try {
    call(&Stub::Entropy, stub, request, std::chrono::milliseconds(1));
  } catch (const Error& error) {
    std::printf("%s\n", error.code == grpc::StatusCode::DEADLINE_EXCEEDED ? "the deadline is over" : error.what());
  }
}

// 40 MB of logits, which no single message takes, with their gradient: 524 rows are about 1 MiB.
void large(Stub& stub) {
  const int64_t rows = 20'000, classes = 500, items = 524;
  std::vector<float> logits(rows * classes), gradient(rows * classes);
  for (size_t i = 0; i < logits.size(); i++) logits[i] = float(i * 7919 % 10007) / 1000 - 5;
  std::vector<int64_t> labels(rows);
  for (size_t i = 0; i < labels.size(); i++) labels[i] = i * 31 % classes;

  v1::Open open;
  open.set_evaluation_id(1);
  auto* request = open.mutable_cross_entropy();
  *request->mutable_target() = tensor(labels, {rows});
  request->add_gradients(v1::GRADIENT_INPUT);
  auto* input = request->mutable_input();
  input->set_dtype(v1::DATA_TYPE_FLOAT32);
  input->add_shape(rows);
  input->add_shape(classes);
  input->mutable_streamed();

  auto result = evaluate_in_blocks(
      stub, open, rows, items,
      [&](v1::Block& block, int64_t first, int64_t count) {
        *block.mutable_input() = tensor(logits.data() + first * classes, {count, classes});
      },
      [&](const v1::BlockResult& block) {
        const std::string& bytes = block.input_gradient().data();
        std::memcpy(gradient.data() + block.first_item() * classes, bytes.data(), bytes.size());
      });
  double sum = 0;
  for (float value : gradient) sum += std::fabs(value);
  std::printf("loss of 20,000 rows %.5f, sum of |gradient| %.6f\n", scalar(result.cross_entropy().loss()), sum);
}

// Small evaluations: on one stream they cost no round trip each. One that fails is alone with it.
void many(Stub& stub) {
  auto results = evaluate_many(stub, 1000, [](v1::Open& open, size_t i) {
    auto* request = open.mutable_cross_entropy();
    *request->mutable_input() = tensor<float>({float(i) / 1000, 0, 0}, {1, 3});
    *request->mutable_target() = tensor<int64_t>({i == 500 ? 9 : 0}, {1});
  });
  int failed = 0;
  for (const auto& one : results) failed += one.has_failure();
  std::printf("%zu results, %d failed, the last loss %.6f\n", results.size(), failed,
              scalar(results.back().cross_entropy().loss()));
}

// The same host: the server reads the logits where they lie, and writes the gradient beside them.
void in_shared_memory(Stub& stub) {
  const int64_t rows = 2000, classes = 500;
  const size_t bytes = rows * classes * sizeof(float);
  SharedMemory memory(stub, 2 * bytes);
  for (int64_t i = 0; i < rows * classes; i++) memory.at<float>(0)[i] = float(i * 7919 % 10007) / 1000 - 5;

  v1::CrossEntropyRequest request;
  *request.mutable_input() = memory.tensor<float>(0, {rows, classes});
  *request.mutable_target() = tensor(std::vector<int64_t>(rows, 3), {rows});
  request.add_gradients(v1::GRADIENT_INPUT);
  auto* placement = request.add_placements();
  placement->set_gradient(v1::GRADIENT_INPUT);
  *placement->mutable_shared_memory() = memory.range(bytes, bytes);
  auto response = call(&Stub::CrossEntropy, stub, request);
  std::printf("in shared memory %.6f, a gradient %.6f\n", scalar(response.loss()), memory.at<float>(bytes)[3]);
}

int main(int argc, char** argv) {
  auto stub = v1::LossService::NewStub(connect(argc > 1 ? argv[1] : "127.0.0.1:50051"));
  one_call(*stub);
  an_error(*stub);
  a_deadline(*stub);
  large(*stub);
  many(*stub);
  in_shared_memory(*stub);
}
