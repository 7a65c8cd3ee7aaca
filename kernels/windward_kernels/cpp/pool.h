// A few helper threads without a barrier. The caller works too, and waits only for pieces that a helper has begun, so a
// helper that the kernel of the operating system has put aside costs one piece, never a stall of all.
#pragma once
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>
#include <sched.h>
#include <unistd.h>

class Pool {
  public:
    using Piece = void (*)(void *context, int piece, int worker);

    ~Pool() { stop(); }

    int threads() const { return threads_; }

    void resize(int threads) {
        stop();
        threads_ = threads < 1 ? 1 : threads > 256 ? 256 : threads;
    }

    // Run `piece` for 0..count-1 and return when all are done. One caller at a time.
    void run(int count, Piece piece, void *context) {
        if (threads_ == 1 || count < 2) {
            for (int i = 0; i < count; i++) piece(context, i, 0);
            return;
        }
        start();
        // First close the old turn: a helper that still looks at it must not claim a piece of this one.
        const uint64_t turn = (claim_.load(std::memory_order_relaxed) >> 32) + 1;
        claim_.store(turn << 32 | CLOSED, std::memory_order_seq_cst);
        piece_.store(piece, std::memory_order_relaxed);
        context_.store(context, std::memory_order_relaxed);
        count_.store(count, std::memory_order_relaxed);
        done_.store(0, std::memory_order_relaxed);
        claim_.store((turn + 1) << 32, std::memory_order_seq_cst);
        if (asleep_.load(std::memory_order_seq_cst) > 0) {
            std::lock_guard<std::mutex> lock(mutex_);
            wake_.notify_all();
        }
        work(0);
        for (int spins = 0; done_.load(std::memory_order_acquire) < count; spins++) pause(spins);
    }

  private:
    static constexpr uint64_t CLOSED = 0x7fffffff;
    static constexpr int SPINS = 4000;  // tens of microseconds: the gap between two products of a step

    static void pause(int spins) {
        if (spins > 256) {
            sched_yield();
            return;
        }
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }

    // Take pieces of the current turn until none is left. A claim succeeds only while its turn lasts.
    void work(int worker) {
        uint64_t seen = claim_.load(std::memory_order_acquire);
        for (;;) {
            const int next = (int)(seen & 0xffffffffu), count = count_.load(std::memory_order_relaxed);
            const Piece piece = piece_.load(std::memory_order_relaxed);
            void *context = context_.load(std::memory_order_relaxed);
            if (next >= count) return;
            if (!claim_.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel, std::memory_order_acquire))
                continue;
            piece(context, next, worker);
            done_.fetch_add(1, std::memory_order_release);
            seen = claim_.load(std::memory_order_acquire);
        }
    }

    void loop(int worker) {
        uint64_t last = 0;
        for (int idle = 0; !ending_.load(std::memory_order_relaxed);) {
            const uint64_t turn = claim_.load(std::memory_order_acquire) >> 32;
            if (turn != last) {
                work(worker);
                last = turn;
                idle = 0;
            } else if (idle++ < SPINS) {
                pause(idle < 2000 ? 0 : 1000);
            } else {
                std::unique_lock<std::mutex> lock(mutex_);
                asleep_.fetch_add(1, std::memory_order_seq_cst);
                wake_.wait(lock, [&] { return ending_.load() || claim_.load(std::memory_order_seq_cst) >> 32 != last; });
                asleep_.fetch_sub(1, std::memory_order_seq_cst);
                idle = 0;
            }
        }
    }

    void start() {
        if (owner_ == getpid() && !helpers_.empty()) return;
        if (!helpers_.empty()) forget();
        owner_ = getpid();
        ending_ = false;
        for (int i = 1; i < threads_; i++) helpers_.emplace_back([this, i] { loop(i); });
    }

    void forget() {  // after a fork the helpers are gone, and with them whatever they held
        for (auto &helper : helpers_) new std::thread(std::move(helper));  // never destroyed: it cannot be joined
        helpers_.clear();
        new (&mutex_) std::mutex();
        new (&wake_) std::condition_variable();
        asleep_ = 0;
    }

    void stop() {
        if (helpers_.empty()) return;
        if (owner_ != getpid()) return forget();
        {
            std::lock_guard<std::mutex> lock(mutex_);
            ending_ = true;
            wake_.notify_all();
        }
        for (auto &helper : helpers_) helper.join();
        helpers_.clear();
    }

    int threads_ = 1;
    pid_t owner_ = 0;
    std::vector<std::thread> helpers_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<bool> ending_{false};
    std::atomic<int> asleep_{0}, count_{0}, done_{0};
    std::atomic<uint64_t> claim_{0};  // turn << 32 | next piece
    std::atomic<Piece> piece_{nullptr};
    std::atomic<void *> context_{nullptr};
};

// `each(piece, worker)` for 0..count-1.
template <class F>
static inline void spread(Pool &pool, int count, F &&each) {
    pool.run(count, [](void *context, int piece, int worker) { (*static_cast<F *>(context))(piece, worker); }, &each);
}
