// SPDX-License-Identifier: BSD-3-Clause
// Snippets of the documentation: decoding with stored keys, attention in parts, a thread pool of one's own.
#include <scaledot/scaledot.hpp>

#include "support.hpp"

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace {

constexpr double close = 1e-5;

struct projections {
    xt::xtensor<float, 4> q, k, v;
};

// Stands for a layer's projections: four query heads, two key heads of size 8.
projections project(std::size_t tokens)
{
    return {numbers<4>({1, 4, tokens, 8}), numbers<4>({1, 2, tokens, 8}), numbers<4>({1, 2, tokens, 8})};
}

void decode()
{
    constexpr std::size_t prompt_length = 5, new_tokens = 3, limit = 64;
    xt::xtensor<float, 4> all_q = xt::zeros<float>({1, 4, 8, 8});
    xt::xtensor<float, 4> all_y = xt::zeros<float>({1, 4, 8, 8});
    std::size_t seen = 0;
    const auto rest_of_the_layer = [&](const auto& q, const auto& y) { // remembers both
        xt::view(all_q, xt::all(), xt::all(), xt::range(seen, seen + q.shape(2))) = q;
        xt::view(all_y, xt::all(), xt::all(), xt::range(seen, seen + q.shape(2))) = y;
        seen += q.shape(2);
    };
    // begin: prefill
    scaledot::kv_cache<float> cache({.batch = 1, .heads = 2, .key_size = 8, .value_size = 8, .capacity = limit});

    auto [q, k, v] = project(prompt_length); // q [1, 4, 5, 8]; k and v [1, 2, 5, 8]: query heads share key heads
    cache.append(k, v);
    auto y = scaledot::attention(q, cache, {.causal = true});
    rest_of_the_layer(q, y);
    // end: prefill

    // begin: step
    for (std::size_t step = 0; step < new_tokens; ++step) {
        auto [next_q, next_k, next_v] = project(1); // of the last token
        cache.append(next_k, next_v);
        // bottom_right: the last query stands at the last key, whatever the cache's length
        auto next_y = scaledot::attention(next_q, cache, {.causal = true, .align = scaledot::alignment::bottom_right});
        rest_of_the_layer(next_q, next_y);
    }
    // end: step
    CHECK(cache.length() == 8 && cache.capacity() == 64);
    // begin: same_bits
    // The whole sequence at once gives the same bits as prompt and steps did.
    auto at_once = scaledot::attention(all_q, cache, {.causal = true});
    CHECK(at_once == all_y);
    // end: same_bits
    CHECK(largest_difference(at_once,
                             textbook(all_q, cache.keys(), cache.values(),
                                      where([](auto, auto, std::size_t i, std::size_t j) { return j <= i; }))) < close);

    const xt::xtensor<float, 4> last_q = numbers<4>({1, 4, 1, 8});
    const std::array<float, 4> learned = {0.f, -1.f, 1.f, 0.5f};
    // begin: window
    // A sliding window of four keys, and a learned sink for each query head (gpt-oss)
    auto windowed = scaledot::attention(
        last_q, cache,
        {.causal = true, .align = scaledot::alignment::bottom_right, .window_left = 3, .sinks = learned});
    // end: window
    const auto without =
        textbook(last_q, cache.keys(), cache.values(), where([](auto, auto, auto, std::size_t j) { return j >= 4; }));
    const auto lse = scaledot::attention_with_lse(
                         last_q, cache, {.causal = true, .align = scaledot::alignment::bottom_right, .window_left = 3})
                         .lse;
    for (std::size_t h = 0; h < 4; ++h) { // the sink takes its share of the mass and brings no value
        const double share = 1 / (1 + std::exp(static_cast<double>(learned[h] - lse(0, h, 0))));
        CHECK(std::abs(static_cast<double>(windowed(0, h, 0, 0)) - share * without(0, h, 0, 0)) < close);
    }
}

void parts()
{
    const auto q = numbers<4>({1, 2, 3, 8});
    const auto k = numbers<4>({1, 2, 10, 8});
    const auto v = numbers<4>({1, 2, 10, 8});
    // begin: merge
    // Keys in two places, on two machines, say: attention over each, with its log-sum-exp, and one result of both
    auto left = scaledot::attention_with_lse(q, xt::view(k, xt::all(), xt::all(), xt::range(0, 6)),
                                             xt::view(v, xt::all(), xt::all(), xt::range(0, 6)));
    auto right = scaledot::attention_with_lse(q, xt::view(k, xt::all(), xt::all(), xt::range(6, 10)),
                                              xt::view(v, xt::all(), xt::all(), xt::range(6, 10)));
    auto both = scaledot::merge(left, right); // of type attention_result, as its parts
    // end: merge
    CHECK(largest_difference(both.output, scaledot::attention(q, k, v)) < close);
}

// begin: pool
class thread_pool : public scaledot::executor {
public:
    explicit thread_pool(std::size_t threads)
    {
        for (std::size_t i = 0; i < threads; ++i) {
            threads_.emplace_back([this] { work(); });
        }
    }

    ~thread_pool() override
    {
        {
            const std::lock_guard lock(mutex_);
            stop_ = true;
        }
        wake_.notify_all();
        for (std::thread& thread : threads_) {
            thread.join();
        }
    }

    std::size_t concurrency() const override { return threads_.size(); }

    // Returns when the last task has; tasks of other callers may be among those that the threads run meanwhile.
    void run(std::size_t tasks, void (*task)(void* context, std::size_t index), void* context) override
    {
        std::size_t left = tasks;
        std::unique_lock lock(mutex_);
        for (std::size_t i = 0; i < tasks; ++i) {
            queue_.push_back([this, task, context, i, &left] {
                task(context, i);
                const std::lock_guard done(mutex_);
                if (--left == 0) {
                    finished_.notify_all();
                }
            });
        }
        wake_.notify_all();
        finished_.wait(lock, [&] { return left == 0; });
    }

private:
    void work()
    {
        std::unique_lock lock(mutex_);
        while (true) {
            wake_.wait(lock, [this] { return stop_ || !queue_.empty(); });
            if (queue_.empty()) {
                return;
            }
            const std::function<void()> job = std::move(queue_.back());
            queue_.pop_back();
            lock.unlock();
            job();
            lock.lock();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, finished_;
    std::vector<std::function<void()>> queue_;
    bool stop_ = false;
    std::vector<std::thread> threads_;
};
// end: pool

void threads()
{
    const auto q = numbers<4>({2, 4, 64, 8});
    const auto k = numbers<4>({2, 4, 64, 8});
    const auto v = numbers<4>({2, 4, 64, 8});
    const auto alone = scaledot::attention(q, k, v);
    // begin: scope
    thread_pool pool(3);
    {
        const scaledot::executor_scope scope(pool); // for this thread's calls, until the scope ends
        auto y = scaledot::attention(q, k, v);
        CHECK(y == alone); // the same bits for any number of threads
    }
    // end: scope
}

} // namespace

int main()
{
    decode();
    parts();
    threads();
    return failures;
}
