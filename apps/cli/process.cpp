#include "apps/cli/process.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>

#include "gimbal/base/error.h"
#include "gimbal/base/log.h"

namespace gimbal::cli {
namespace {

namespace fs = std::filesystem;

std::string program_name;

bool is_program(const fs::path& path) {
  return fs::is_regular_file(path) && ::access(path.c_str(), X_OK) == 0;
}

// The folder that the program was called in, with links left as they are: .venv/bin may hold links
// to the build folder, and python is beside the link. Then the folder of the file itself.
std::vector<fs::path> program_folders() {
  std::vector<fs::path> folders;
  if (program_name.find('/') != std::string::npos) {
    folders.push_back(fs::absolute(program_name).parent_path());
  } else if (const char* path = std::getenv("PATH")) {
    std::istringstream entries(path);
    for (std::string entry; std::getline(entries, entry, ':');) {
      if (!is_program(fs::path(entry) / program_name)) continue;
      folders.push_back(fs::absolute(entry));
      break;
    }
  }
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  if (!error && (folders.empty() || folders.front() != self.parent_path())) {
    folders.push_back(self.parent_path());
  }
  return folders;
}

std::string find_neighbour(const std::string& name, const std::string& advice) {
  std::string tried;
  for (const fs::path& folder : program_folders()) {
    if (is_program(folder / name)) return (folder / name).string();
    tried += "\n  " + (folder / name).string();
  }
  throw UserError(concat(name, " is not beside this program", advice, ". Looked for:", tried));
}

std::string find_python() {
  if (const char* given = std::getenv("GIMBAL_PYTHON"); given != nullptr && *given != '\0') {
    GIMBAL_USER_CHECK(is_program(given), "GIMBAL_PYTHON: '", given,
                      "' is no program; give the path of a Python that has gimbal's packages");
    return given;
  }
  return find_neighbour("python",
                        "; run `make build` and use .venv/bin/gimbal, or set GIMBAL_PYTHON");
}

[[noreturn]] void exec(const Arguments& words) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  ::execv(argv[0], argv.data());
  throw UserError(concat("cannot start ", words[0], ": ", std::strerror(errno)));
}

/// Until gimbal.launch can take them: Python would lose one that comes while it starts, or end with
/// a traceback.
void hold_signals() {
  sigset_t held;
  sigemptyset(&held);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1}) sigaddset(&held, number);
  ::sigprocmask(SIG_BLOCK, &held, nullptr);
}

/// For programs that run many passes. The user's own settings count.
void keep_for_next_pass() {
  // oneDNN keeps 1,024 prepared kernels; long runs over packs of unlike sizes need more. In a run
  // of 30 steps it makes no difference.
  ::setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192", 0);
  // Memory that a pass gives back serves the next one instead of coming back as pages to be zeroed:
  // in 30 steps of the digits demo half as many page faults and 4 % less processor time, for 2 %
  // (one process) to 13 % more resident memory at most.
  ::setenv("MALLOC_TRIM_THRESHOLD_", "4294967296", 0);
  ::setenv("MALLOC_MMAP_THRESHOLD_", "33554432", 0);
}

}  // namespace

void set_program_name(const char* argv0) { program_name = argv0 == nullptr ? "" : argv0; }

void exec_python(const Arguments& arguments) {
  Arguments words = {find_python(), "-m", "gimbal"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  exec(words);
}

void exec_run(const Arguments& arguments, int num_processes, int max_restarts) {
  Arguments words = {find_neighbour("gimbal-run", "; run `make build`")};
  words.insert(words.end(), arguments.begin(), arguments.end());
  // Threads that wait for each other soon sleep instead of spinning: beside other load a run is
  // then about 1.5 times as fast, alone it makes no difference. The user's own setting counts.
  if (std::getenv("OMP_WAIT_POLICY") == nullptr) ::setenv("GOMP_SPINCOUNT", "1000", 0);
  if (arguments.front() == "train" || arguments.front() == "profile") keep_for_next_pass();
  if (num_processes == 1 && max_restarts == 0) exec(words);
  if (const char* size = std::getenv("WORLD_SIZE")) {
    throw UserError(concat("--nproc ", num_processes, " inside a launcher (WORLD_SIZE=", size,
                           "): leave --nproc out, or unset WORLD_SIZE"));
  }
  // torchrun sets this to 1 with a warning when it is not set. train.threads decides anyway.
  ::setenv("OMP_NUM_THREADS", "1", 0);
  Arguments launcher = {find_python(),
                        "-m",
                        "gimbal.launch",
                        "--nproc",
                        std::to_string(num_processes),
                        "--max-restarts",
                        std::to_string(max_restarts),
                        "--"};
  launcher.insert(launcher.end(), words.begin(), words.end());
  hold_signals();
  exec(launcher);
}

std::string run_python(const Arguments& arguments) {
  Arguments words = {find_python(), "-m"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  int pipe_ends[2];
  GIMBAL_CHECK(::pipe2(pipe_ends, O_CLOEXEC) == 0, "pipe: ", std::strerror(errno));
  const pid_t child = ::fork();
  GIMBAL_CHECK(child >= 0, "fork: ", std::strerror(errno));
  if (child == 0) {
    ::dup2(pipe_ends[1], STDOUT_FILENO);
    try {
      exec(words);
    } catch (const UserError& error) {
      log_error(error.what());
    }
    ::_exit(2);
  }
  ::close(pipe_ends[1]);
  std::string output;
  char buffer[1 << 16];
  while (true) {
    const ssize_t count = ::read(pipe_ends[0], buffer, sizeof(buffer));
    if (count > 0) output.append(buffer, static_cast<std::size_t>(count));
    if (count == 0 || (count < 0 && errno != EINTR)) break;
  }
  ::close(pipe_ends[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    GIMBAL_CHECK(errno == EINTR, "waitpid: ", std::strerror(errno));
  }
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  GIMBAL_USER_CHECK(code != 2, "python -m ", arguments.front(), " gave up; the reason is above");
  GIMBAL_CHECK(code == 0, "python -m ", arguments.front(), " failed; the reason is above");
  return output;
}

std::string inherited_file(const std::string& content) {
  // Memory without a name, kept open across exec: there is nothing to delete afterwards.
  const int fd = ::memfd_create("gimbal", 0);
  GIMBAL_CHECK(fd >= 0, "memfd_create: ", std::strerror(errno));
  for (std::size_t done = 0; done < content.size();) {
    const ssize_t count = ::write(fd, content.data() + done, content.size() - done);
    GIMBAL_CHECK(count > 0, "memfd: ", std::strerror(errno));
    done += static_cast<std::size_t>(count);
  }
  return concat("/proc/self/fd/", fd);
}

}  // namespace gimbal::cli
