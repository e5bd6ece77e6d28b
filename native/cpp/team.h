// Threads that compute one thing together.
//
// A team's threads begin with its first task, spin for a moment after each one, and then sleep until the next. After a fork the child has none of them, and
// begins anew. Members of a crew meet at barriers, where they spin: a text of 16 tokens is over in half a millisecond and meets fifty times.

#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "kernels.h"

namespace portabert {

// Where the members of a crew wait for one another.
class Barrier {
 public:
  explicit Barrier(int size) : size_(size) {}
  void wait();

 private:
  const int size_;
  std::atomic<int> waiting_{0};
  std::atomic<unsigned> round_{0};
};

// One member of a crew, as it sees itself.
struct Crew {
  int index = 0;
  int size = 1;
  Barrier* barrier = nullptr;

  void meet() const {
    if (barrier) barrier->wait();
  }

  // Calls function(begin, end) with this member's share of 0 … count.
  template <class Function>
  void share(int count, Function function) const {
    const int begin = part_begin(count, index, size), end = part_begin(count, index + 1, size);
    if (begin < end) function(begin, end);
  }
};

class Team {
 public:
  explicit Team(int size);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return size_; }

  // Runs the task with each index from 0 to size − 1, the caller's being 0, and returns when all have ended. The task must not throw. One call at a time.
  void run(const std::function<void(int)>& task);

 private:
  struct Workers;
  const int size_;
  std::unique_ptr<Workers> workers_;
};

}  // namespace portabert
