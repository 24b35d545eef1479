#include "workers.h"

#include <ATen/Parallel.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <thread>

#include "gimbal/base/error.h"
#include "gimbal/parallel/comm.h"

namespace gimbal::testing_workers {
namespace {

constexpr auto kDeadline = std::chrono::seconds(90);
constexpr int kCommErrorCode = 1;
constexpr int kUserErrorCode = 2;
constexpr int kOtherErrorCode = 3;

/// Starts this program as a worker whose stdout goes to `output`.
pid_t start_worker(const std::string& name, const Variables& variables,
                   const std::filesystem::path& output) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  const int file = open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  dup2(file, STDOUT_FILENO);
  for (const auto& [key, value] : variables) setenv(key.c_str(), value.c_str(), 1);
  execl("/proc/self/exe", "dist_parallel", "--worker", name.c_str(), nullptr);
  _exit(127);
}

/// The exit code; kills the process when the deadline has passed.
int wait_for(pid_t pid, std::chrono::steady_clock::time_point deadline) {
  int status = 0;
  while (waitpid(pid, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > deadline) {
      kill(pid, SIGKILL);
      waitpid(pid, &status, 0);
      return -1;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

std::map<std::string, WorkerMain>& registry() {
  static std::map<std::string, WorkerMain> workers;
  return workers;
}

int free_port() {
  const int socket_file = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  const bool bound = bind(socket_file, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                     getsockname(socket_file, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  close(socket_file);
  GIMBAL_CHECK(bound, "no free port");
  return ntohs(address.sin_port);
}

std::vector<WorkerResult> run_workers(const std::string& name, int size, const Variables& variables,
                                      const std::vector<int>& absent) {
  std::string folder = (std::filesystem::temp_directory_path() / "gimbal_dist_XXXXXX").string();
  GIMBAL_CHECK(mkdtemp(folder.data()) != nullptr, "mkdtemp ", folder);
  const std::string port = std::to_string(free_port());
  std::vector<pid_t> pids(static_cast<std::size_t>(size), -1);
  const auto output_of = [&](int rank) {
    return std::filesystem::path(folder) / std::to_string(rank);
  };
  for (int rank = 0; rank < size; ++rank) {
    if (std::ranges::count(absent, rank) > 0) continue;
    Variables all{{"RANK", std::to_string(rank)},       {"WORLD_SIZE", std::to_string(size)},
                  {"LOCAL_RANK", std::to_string(rank)}, {"LOCAL_WORLD_SIZE", std::to_string(size)},
                  {"MASTER_ADDR", "127.0.0.1"},         {"MASTER_PORT", port}};
    for (const auto& [key, value] : variables) all[key] = value;
    pids[static_cast<std::size_t>(rank)] = start_worker(name, all, output_of(rank));
  }
  const auto deadline = std::chrono::steady_clock::now() + kDeadline;
  std::vector<WorkerResult> results(static_cast<std::size_t>(size));
  for (int rank = 0; rank < size; ++rank) {
    const auto i = static_cast<std::size_t>(rank);
    if (pids[i] > 0) results[i] = {wait_for(pids[i], deadline), read_text(output_of(rank))};
  }
  std::filesystem::remove_all(folder);
  return results;
}

bool run_as_worker(int argc, char** argv, int& exit_code) {
  if (argc != 3 || std::string(argv[1]) != "--worker") return false;
  exit_code = 0;
  try {
    at::set_num_threads(1);
    registry().at(argv[2])();
  } catch (const CommError& e) {
    std::cout << "CommError: " << e.what() << std::endl;
    exit_code = kCommErrorCode;
  } catch (const UserError& e) {
    std::cout << "UserError: " << e.what() << std::endl;
    exit_code = kUserErrorCode;
  } catch (const std::exception& e) {
    std::cout << "error: " << e.what() << std::endl;
    exit_code = kOtherErrorCode;
  }
  return true;
}

}  // namespace gimbal::testing_workers
