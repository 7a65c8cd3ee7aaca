// What the entry points share: the kernels chosen for this processor, the pool, the work space.
#pragma once
#include "kernels.h"
#include "pool.h"

const Kernels &kernels();
Pool &pool();

class Space {  // memory that only grows, kept between calls
  public:
    template <class T>
    T *take(int64_t count) {
        const size_t bytes = ((size_t)count * sizeof(T) + 63) / 64 * 64;
        if (bytes > kept_.size() - 64 || kept_.empty()) kept_ = std::vector<uint8_t>(bytes + bytes / 4 + 128);
        return reinterpret_cast<T *>(((uintptr_t)kept_.data() + 63) / 64 * 64);
    }

  private:
    std::vector<uint8_t> kept_;
};

struct Rows {  // activations with room for their quantised form
    Space x, q, scale, sum;
    Activations of;

    float *floats(int64_t rows, int cols) {
        float *made = x.take<float>(rows * cols);
        int8_t *codes = q.take<int8_t>(rows * cols);
        const int64_t groups = rows * (cols / WW_GROUP + 1);
        float *by = scale.take<float>(groups), *sums = sum.take<float>(groups);
        of = {made, codes, by, sums, cols};
        return made;
    }
    void quantise(int row) {
        const int64_t groups = of.ld / WW_GROUP, at = (int64_t)row * of.ld;
        kernels().quantise(of.x + at, of.ld, (int8_t *)of.q + at, (float *)of.scale + row * groups,
                           (float *)of.sum + row * groups);
    }
};

bool reads_codes(const WwLinear *linear);
void apply(const WwLinear *linear, const Activations *a, int rows, float *out, int ldo, const float *residual);
void attend_all(const AttentionUnit &base, const int32_t *first, const int32_t *tables, int table_width, int sequences,
                int heads);
