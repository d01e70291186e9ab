// SPDX-License-Identifier: BSD-3-Clause
// Numbers that end where the memory ends: reading or writing one past the last stops the program.
#ifndef SCALEDOT_TESTS_SUPPORT_GUARDED_MEMORY_HPP
#define SCALEDOT_TESTS_SUPPORT_GUARDED_MEMORY_HPP

#include <algorithm>
#include <cstddef>
#include <new>

#include <sys/mman.h>
#include <unistd.h>

namespace test_support {

/// `count` numbers of T, followed by `beyond` that exist only as addresses.
template <class T>
class guarded_memory {
public:
    guarded_memory(std::size_t count, std::size_t beyond)
        : page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))), usable_(pages(count)),
          size_(usable_ + pages(beyond) + page_),
          memory_(mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
    {
        if (memory_ == MAP_FAILED) {
            throw std::bad_alloc();
        }
        char* const end = static_cast<char*>(memory_) + usable_;
        mprotect(end, size_ - usable_, PROT_NONE);
        data_ = reinterpret_cast<T*>(end) - count;
    }
    ~guarded_memory() { munmap(memory_, size_); }
    guarded_memory(const guarded_memory&) = delete;
    guarded_memory& operator=(const guarded_memory&) = delete;

    T* data() const { return data_; }

private:
    std::size_t pages(std::size_t count) const { return (count * sizeof(T) + page_ - 1) / page_ * page_; }

    std::size_t page_;
    std::size_t usable_;
    std::size_t size_;
    void* memory_;
    T* data_;
};

} // namespace test_support

#endif
