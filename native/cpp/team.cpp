#include "team.h"

#include <unistd.h>

#include <thread>
#include <vector>

namespace portabert {

namespace {

constexpr int kSpins = 4000;  // some 100 µs; then the thread gives its core away

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

}  // namespace

void Barrier::wait() {
  const unsigned round = round_.load(std::memory_order_acquire);
  if (waiting_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
    waiting_.store(0, std::memory_order_relaxed);
    round_.store(round + 1, std::memory_order_release);
    return;
  }
  for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins)
    spins < kSpins ? pause() : std::this_thread::yield();
}

struct Team::Workers {
  explicit Workers(int count) : process(getpid()) {
    try {
      for (int i = 1; i <= count; ++i) threads.emplace_back([this, i] { work(i); });
    } catch (...) {  // the system gives no more threads
      stop();
      throw;
    }
  }

  ~Workers() { stop(); }

  void stop() {
    stopping = true;
    call(nullptr);
    for (std::thread& thread : threads) thread.join();
  }

  void call(const std::function<void(int)>* next) {
    task = next;
    left.store(static_cast<int>(threads.size()), std::memory_order_relaxed);
    number.fetch_add(1, std::memory_order_release);
    number.notify_all();
  }

  void wait() {
    for (int spins = 0; left.load(std::memory_order_acquire) > 0; ++spins)
      spins < kSpins ? pause() : std::this_thread::yield();
  }

  void work(int index) {
    for (unsigned done = 0;;) {
      for (int spins = 0; spins < kSpins && number.load(std::memory_order_acquire) == done; ++spins) pause();
      number.wait(done, std::memory_order_acquire);
      ++done;
      if (stopping) return;
      (*task)(index);
      left.fetch_sub(1, std::memory_order_release);
    }
  }

  const pid_t process;
  std::atomic<unsigned> number{0};  // of the latest task
  std::atomic<int> left{0};
  const std::function<void(int)>* task = nullptr;
  bool stopping = false;
  std::vector<std::thread> threads;
};

Team::Team(int size) : size_(size) {}

Team::~Team() {
  if (workers_ && workers_->process != getpid()) workers_.release();  // a fork has left nobody to join
}

void Team::run(const std::function<void(int)>& task) {
  if (size_ == 1) return task(0);
  if (workers_ && workers_->process != getpid()) workers_.release();
  if (!workers_) workers_ = std::make_unique<Workers>(size_ - 1);
  workers_->call(&task);
  task(0);
  workers_->wait();
}

}  // namespace portabert
