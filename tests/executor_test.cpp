// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/detail/shared_work.hpp>
#include <scaledot/executor.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace sd = scaledot;

namespace {

/// What a user would write: threads that live as long as the pool and take the next index of the current batch.
class thread_pool : public sd::executor {
public:
    explicit thread_pool(std::size_t size)
    {
        for (std::size_t i = 0; i < size; ++i) {
            threads_.emplace_back([this] { work(); });
        }
    }

    ~thread_pool() override
    {
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
        }
        wake_.notify_all();
        for (auto& thread : threads_) {
            thread.join();
        }
    }

    std::size_t concurrency() const override { return threads_.size(); }

    void run(std::size_t tasks, void (*task)(void* context, std::size_t index), void* context) override
    {
        std::unique_lock lock(mutex_);
        task_ = [=](std::size_t index) { task(context, index); };
        next_ = 0;
        tasks_ = tasks;
        unfinished_ = tasks;
        wake_.notify_all();
        done_.wait(lock, [this] { return unfinished_ == 0; });
        ++batches;
    }

    std::size_t batches = 0;

private:
    void work()
    {
        std::unique_lock lock(mutex_);
        while (true) {
            wake_.wait(lock, [this] { return stopping_ || next_ < tasks_; });
            if (stopping_) {
                return;
            }
            const std::size_t index = next_++;
            lock.unlock();
            task_(index);
            lock.lock();
            if (--unfinished_ == 0) {
                done_.notify_all();
            }
        }
    }

    std::vector<std::thread> threads_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::condition_variable done_;
    std::function<void(std::size_t)> task_;
    std::size_t next_ = 0;
    std::size_t tasks_ = 0;
    std::size_t unfinished_ = 0;
    bool stopping_ = false;
};

} // namespace

TEST_CASE("executor: run_parts calls each part once, on the pool while a scope lasts")
{
    thread_pool pool(3);
    const auto here = std::this_thread::get_id();
    for (const std::size_t parts : {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{50}}) {
        std::vector<int> calls(parts);
        std::atomic<int> elsewhere{0};
        {
            const sd::executor_scope scope(pool);
            sd::detail::run_parts(parts, [&](std::size_t i) {
                ++calls[i];
                elsewhere += std::this_thread::get_id() != here ? 1 : 0;
            });
        }
        CHECK(std::count(calls.begin(), calls.end(), 1) == static_cast<std::ptrdiff_t>(parts));
        CHECK(elsewhere == static_cast<int>(parts > 1 ? parts : 0)); // one part alone needs no thread
    }
    CHECK(pool.batches == 3);
    sd::detail::run_parts(5, [](std::size_t) {});
    CHECK(pool.batches == 3);
}

TEST_CASE("executor: results written by the parts are seen after the call")
{
    thread_pool pool(4);
    const sd::executor_scope scope(pool);
    std::vector<double> values(100'000);
    for (int round = 1; round <= 20; ++round) {
        sd::detail::run_ranges(values.size(), 4, 1, [&](std::size_t, std::size_t begin, std::size_t end) {
            for (std::size_t i = begin; i < end; ++i) {
                values[i] += 1;
            }
        });
        CHECK(std::count(values.begin(), values.end(), round) == 100'000);
    }
}

TEST_CASE("executor: scopes nest, and belong to their thread")
{
    thread_pool outer(2);
    thread_pool inner(3);
    const sd::executor_scope outer_scope(outer);
    CHECK(sd::detail::available_threads() == 2);
    {
        const sd::executor_scope inner_scope(inner);
        CHECK(sd::detail::available_threads() == 3);
    }
    CHECK(sd::detail::available_threads() == 2);
    sd::executor* seen = &outer;
    std::thread([&] { seen = sd::detail::current_executor(); }).join();
    CHECK(seen == nullptr);
}

TEST_CASE("executor: ranges of a part are contiguous, in order, cover everything, and differ by at most one")
{
    for (const std::size_t items : {std::size_t{1}, std::size_t{7}, std::size_t{64}, std::size_t{1001}}) {
        for (std::size_t parts = 1; parts <= std::min<std::size_t>(items, 9); ++parts) {
            std::vector<std::size_t> ends;
            for (std::size_t part = 0; part < parts; ++part) {
                const auto [begin, end] = sd::detail::range_of_part(items, parts, part);
                CHECK(begin == (part == 0 ? 0 : ends.back()));
                CHECK(end - begin >= items / parts);
                CHECK(end - begin <= items / parts + 1);
                ends.push_back(end);
            }
            CHECK(ends.back() == items);
        }
    }
}

TEST_CASE("executor: run_ranges covers each item once, in up to four ranges a part, none of which is too short")
{
    for (const std::size_t items : {std::size_t{2}, std::size_t{7}, std::size_t{64}, std::size_t{1001}}) {
        for (std::size_t parts = 1; parts <= std::min<std::size_t>(items, 90); ++parts) {
            for (const std::size_t shortest : {std::size_t{1}, std::size_t{10}}) {
                CAPTURE(items);
                CAPTURE(parts);
                CAPTURE(shortest);
                thread_pool pool(4);
                const sd::executor_scope scope(pool);
                std::vector<std::atomic<int>> covered(items);
                std::atomic<std::size_t> ranges{0};
                std::atomic<bool> right{true};
                sd::detail::run_ranges(items, parts, shortest,
                                       [&](std::size_t part, std::size_t begin, std::size_t end) {
                                           right = right && part < parts && begin < end && end <= items &&
                                                   end - begin >= std::min(shortest, items / parts);
                                           ++ranges;
                                           for (std::size_t i = begin; i < end; ++i) {
                                               ++covered[i];
                                           }
                                       });
                CHECK(right);
                CHECK(ranges >= parts);
                CHECK(ranges <= 4 * parts);
                CHECK(std::all_of(covered.begin(), covered.end(), [](const auto& count) { return count == 1; }));
            }
        }
    }
    sd::detail::run_ranges(0, 0, 1, [](std::size_t, std::size_t, std::size_t) { CHECK(false); });
}

TEST_CASE("executor: threads take each index of shared work once, however often it is dealt, and more of it than there "
          "are threads")
{
    for (const std::size_t items : {std::size_t{0}, std::size_t{1}, std::size_t{7}, std::size_t{1000}}) {
        for (const std::size_t parts : {std::size_t{1}, std::size_t{3}, std::size_t{8}}) {
            CAPTURE(items);
            CAPTURE(parts);
            thread_pool pool(parts);
            const sd::executor_scope scope(pool);
            sd::detail::shared_work work(parts + 1); // a share that no part owns
            std::vector<std::atomic<int>> taken(items);
            for (int times = 1; times <= 3; ++times) {
                work.deal(items);
                sd::detail::run_parts(parts, [&](std::size_t part) {
                    work.take(part, [&](std::size_t i, std::size_t end) { taken[i] += i < end ? 1 : 100; });
                });
                CHECK(
                    std::all_of(taken.begin(), taken.end(), [&](const auto& count) { return count == 2 * times - 1; }));
                work.deal(items);
                sd::detail::run_parts(parts, [&](std::size_t part) {
                    work.take_ranges(part, 4, [&](std::size_t first, std::size_t last) {
                        for (std::size_t i = first; i < last; ++i) {
                            taken[i] += last - first <= 4 ? 1 : 100;
                        }
                    });
                });
                CHECK(std::all_of(taken.begin(), taken.end(), [&](const auto& count) { return count == 2 * times; }));
            }
        }
    }
}

TEST_CASE("executor: of shared work a part takes its own share first, in order, then what the others have left")
{
    sd::detail::shared_work work(3);
    work.deal(8); // 0 1 2 | 3 4 5 | 6 7
    std::vector<std::size_t> taken;
    work.take(1, [&](std::size_t i, std::size_t end) {
        taken.push_back(i);
        if (i == 4) { // meanwhile the first part takes all that is left
            work.take(0, [&](std::size_t other, std::size_t) { taken.push_back(other); });
        }
        CHECK(end == 6);
    });
    CHECK(taken == std::vector<std::size_t>{3, 4, 0, 1, 2, 5, 6, 7});
}

TEST_CASE("executor: ranges of shared work grow short towards the end of a share")
{
    sd::detail::shared_work work(2);
    work.deal(28);
    std::vector<std::size_t> beginnings;
    work.take_ranges(1, 3, [&](std::size_t first, std::size_t last) {
        beginnings.push_back(first);
        CHECK(last > first);
    });
    CHECK(beginnings == std::vector<std::size_t>{14, 17, 20, 22, 24, 25, 26, 27, 0, 3, 6, 8, 10, 11, 12, 13});
}

TEST_CASE("executor: little work is not cut, much work into one part per thread, never more parts than items")
{
    thread_pool pool(4);
    const sd::executor_scope scope(pool);
    CHECK(sd::detail::part_count(0, 1e9) == 0);
    CHECK(sd::detail::part_count(1, 1e9) == 1);
    CHECK(sd::detail::part_count(100, 10) == 1);
    CHECK(sd::detail::part_count(100, 1e6) == 4);
    CHECK(sd::detail::part_count(3, 1e9) == 3);
    CHECK(sd::detail::part_count(1000, 200) == 3);
}
