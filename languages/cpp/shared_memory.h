// Memory that this process shares with a server on the same host: tensors are not sent, gradients are written in place.
#pragma once
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "lossd.h"

namespace lossd {

class SharedMemory {
 public:
  // Throws std::runtime_error where that server has no shared memory, or another server answers on its socket.
  SharedMemory(v1::LossService::Stub& stub, size_t bytes) : size_(bytes) {
    auto info = call(&v1::LossService::Stub::GetServerInfo, stub, v1::GetServerInfoRequest());
    try {
      greet(info.shared_memory_socket(), info.instance_id());
      allocate();
      register_memory();
    } catch (...) {
      close();
      throw;
    }
  }
  SharedMemory(const SharedMemory&) = delete;
  ~SharedMemory() { close(); }

  // The memory at a byte offset, which is a multiple of the element's size.
  template <class T> T* at(size_t offset) { return reinterpret_cast<T*>(static_cast<char*>(memory_) + offset); }

  // What stands in a Tensor, or in a Placement, instead of its data.
  v1::SharedMemory range(size_t offset, size_t length) const {
    v1::SharedMemory range;
    range.set_token(token_);
    range.set_offset(offset);
    range.set_length(length);
    return range;
  }

  // A tensor whose elements lie there.
  template <class T> v1::Tensor tensor(size_t offset, const Shape& shape) const {
    v1::Tensor t;
    t.set_dtype(dtype_of<T>());
    for (int64_t d : shape) t.add_shape(d);
    *t.mutable_shared_memory() = range(offset, elements(shape) * sizeof(T));
    return t;
  }

 private:
  static void check(bool good, const char* what) {
    if (!good) throw std::system_error(errno, std::generic_category(), what);
  }

  void greet(const std::string& path, const std::string& instance_id) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path) throw std::runtime_error("no shared memory there");
    path.copy(address.sun_path, path.size());
    check((socket_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) >= 0, "socket");
    check(!::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address), "connect");
    check(::send(socket_, "lossd memory 1", 14, MSG_NOSIGNAL) == 14, "hello");
    // Several servers may share an address: this is the one that RPCs of this connection reach, or it is of no use.
    if (record() != "lossd memory 1 " + instance_id) throw std::runtime_error("another server's socket");
  }

  void allocate() {
    check((file_ = ::memfd_create("lossd", MFD_CLOEXEC | MFD_ALLOW_SEALING)) >= 0, "memfd_create");
    check(!(errno = ::posix_fallocate(file_, 0, off_t(size_))), "fallocate");
    check(!::fcntl(file_, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), "seal");
    void* memory = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
    check(memory != MAP_FAILED, "mmap");
    memory_ = memory;
  }

  // 'R', the size in 8 bytes, and the file descriptor beside them; the answer is 'T' and a token, or 'F' and why not.
  void register_memory() {
    char sent[9] = {'R'};
    uint64_t size = size_;
    std::memcpy(sent + 1, &size, sizeof size);
    iovec bytes{sent, sizeof sent};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof file_)] = {};
    msghdr message{};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof file_);
    std::memcpy(CMSG_DATA(rights), &file_, sizeof file_);
    check(::sendmsg(socket_, &message, MSG_NOSIGNAL) == sizeof sent, "register");
    auto answer = record();
    if (answer.size() != 17 || answer[0] != 'T') throw std::runtime_error("refused: " + answer.substr(1));
    token_ = answer.substr(1);
  }

  std::string record() {
    char bytes[4096];
    auto count = ::recv(socket_, bytes, sizeof bytes, 0);
    check(count >= 0, "recv");
    if (count == 0) throw std::runtime_error("the server closed its socket");
    return {bytes, size_t(count)};
  }

  // The token's life is the connection's: the server lets go of the memory when the socket is closed.
  void close() {
    if (memory_) ::munmap(memory_, size_);
    if (file_ >= 0) ::close(file_);
    if (socket_ >= 0) ::close(socket_);
  }

  size_t size_;
  int socket_ = -1, file_ = -1;
  void* memory_ = nullptr;
  std::string token_;
};

}  // namespace lossd
