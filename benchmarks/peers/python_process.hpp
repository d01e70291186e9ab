// SPDX-License-Identifier: BSD-3-Clause
// A Python script as a child process that stays for the whole run: orders and seconds go through pipes, numbers through
// shared memory (python_peer.py is the child's side).
#pragma once

#include "../support/clock.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>

namespace scaledot_benchmark {

[[noreturn]] inline void fail(const std::string& what)
{
    throw std::system_error(errno, std::generic_category(), what);
}

/// Floats that another process can map by its path.
class shared_floats {
public:
    explicit shared_floats(std::size_t count)
        : bytes_(count * sizeof(float)), file_(memfd_create("attention", MFD_CLOEXEC))
    {
        if (file_ < 0 || ftruncate(file_, static_cast<off_t>(bytes_)) != 0) {
            fail("shared memory");
        }
        data_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
        if (data_ == MAP_FAILED) {
            fail("shared memory");
        }
    }
    ~shared_floats()
    {
        munmap(data_, bytes_);
        close(file_);
    }
    shared_floats(const shared_floats&) = delete;
    shared_floats& operator=(const shared_floats&) = delete;

    float* data() const { return static_cast<float*>(data_); }
    std::string path() const { return "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(file_); }

private:
    std::size_t bytes_;
    int file_;
    void* data_;
};

class python_process {
public:
    python_process(const std::string& script, int threads)
    {
        // A child that died is told by its missing answer.
        std::signal(SIGPIPE, SIG_IGN);
        int to_child[2];
        int from_child[2];
        if (pipe2(to_child, O_CLOEXEC) != 0 || pipe2(from_child, O_CLOEXEC) != 0) {
            fail("pipe");
        }
        orders_.reset(fdopen(to_child[1], "w"));
        answers_.reset(fdopen(from_child[0], "r"));
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, to_child[0], STDIN_FILENO);
        posix_spawn_file_actions_adddup2(&actions, from_child[1], STDOUT_FILENO);
        std::string interpreter = SCALEDOT_PEERS_PYTHON;
        std::string path = SCALEDOT_SOURCE_DIR "/benchmarks/peers/" + script;
        std::string count = std::to_string(threads);
        setenv("OMP_NUM_THREADS", count.c_str(), 1);
        // NumPy asks for huge pages; nobody else's arrays have them.
        setenv("NUMPY_MADVISE_HUGEPAGE", "0", 1);
        std::string clock = in_cpu_time() ? "cpu" : "wall";
        char* const arguments[] = {interpreter.data(), path.data(), count.data(), clock.data(), nullptr};
        const int error = posix_spawn(&child_, interpreter.c_str(), &actions, nullptr, arguments, environ);
        posix_spawn_file_actions_destroy(&actions);
        close(to_child[0]);
        close(from_child[1]);
        if (error != 0) {
            throw std::system_error(error, std::generic_category(), interpreter);
        }
    }

    ~python_process()
    {
        orders_.reset();
        waitpid(child_, nullptr, 0);
    }
    python_process(const python_process&) = delete;
    python_process& operator=(const python_process&) = delete;

    /// What the child answers to one line; throws when it reports an error.
    std::string ask(const std::string& order)
    {
        std::fputs((order + "\n").c_str(), orders_.get());
        std::fflush(orders_.get());
        std::string answer;
        for (int c = std::fgetc(answers_.get()); c != '\n'; c = std::fgetc(answers_.get())) {
            if (c == EOF) {
                throw std::runtime_error("the Python process ended");
            }
            answer += static_cast<char>(c);
        }
        if (answer.starts_with("error")) {
            throw std::runtime_error(answer);
        }
        return answer;
    }

private:
    struct close_file {
        void operator()(std::FILE* file) const { std::fclose(file); }
    };
    using file = std::unique_ptr<std::FILE, close_file>;

    pid_t child_ = -1;
    file orders_, answers_;
};

} // namespace scaledot_benchmark
