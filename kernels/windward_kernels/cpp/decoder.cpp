// A whole step of a decoder in one call: mixed prefill and decode over the paged cache.
#include <math.h>
#include <string.h>

#include "runtime.h"

namespace {

struct Workspace {
    Rows normed, heads, gated, final;
    Space x, qkv, gate_up;
};

Workspace &workspace() {
    static Workspace *one = new Workspace;
    return *one;
}

// Queries and keys of token t: norm (where the model has one), turn; keys and values to their page.
void place(const WwModel &m, const WwLayer &layer, const WwKv &kv, int index, const WwStep &step, int s, int t,
           float *qkv) {
    const int D = m.head_dim, inner = m.heads * D, shared = m.kv_heads * D, at = step.position[t];
    const float *cos = m.cos + (int64_t)at * (D / 2), *sin = m.sin + (int64_t)at * (D / 2);
    for (int h = 0; h < m.heads + m.kv_heads; h++) {
        float *x = qkv + h * D;
        const float *norm = h < m.heads ? layer.q_norm : layer.k_norm;
        if (norm) kernels().rms_norm(x, norm, m.eps, D, x);
        kernels().rope(x, cos, sin, D);
    }
    const int block = step.table[(int64_t)s * step.table_width + at / WW_PAGE];
    kernels().append(&kv, index, m.kv_heads, D, block, at % WW_PAGE, qkv + inner, qkv + inner + shared);
}

template <class F>
void each_row(int rows, F &&work) {
    const int threads = pool().threads(), pieces = threads == 1 || rows < 8 ? 1 : threads * 2;
    spread(pool(), pieces, [&](int piece, int) {
        for (int r = rows * piece / pieces; r < rows * (piece + 1) / pieces; r++) work(r);
    });
}

void normed(const float *x, const float *weight, float eps, int width, int rows, const WwLinear &next, Rows &into) {
    float *out = into.floats(rows, width);
    const bool codes = reads_codes(&next);
    each_row(rows, [&](int r) {
        kernels().rms_norm(x + (int64_t)r * width, weight, eps, width, out + (int64_t)r * width);
        if (codes) into.quantise(r);
    });
}

// Move the rows that want outputs to the front, in order. False, and nothing moved, where they stand in another order.
bool keep(const WwStep &step, float *rows, int width) {
    for (int i = 0; i < step.outputs; i++)
        if (step.output[i] < i || (i && step.output[i] <= step.output[i - 1])) return false;
    for (int i = 0; i < step.outputs; i++)
        memmove(rows + (int64_t)i * width, rows + (int64_t)step.output[i] * width, sizeof(float) * width);
    return true;
}

// Returns the rows that are left of x: after the last layer's keys and values are stored, only those that want outputs.
int attention(const WwModel &m, const WwLayer &layer, const WwKv &kv, int index, const WwStep &step, float *x) {
    Workspace &w = workspace();
    int T = step.tokens, D = m.head_dim, inner = m.heads * D, width = layer.qkv.rows;
    normed(x, layer.attention_norm, m.eps, m.width, T, layer.qkv, w.normed);
    float *qkv = w.qkv.take<float>((int64_t)T * width);
    apply(&layer.qkv, &w.normed.of, T, qkv, width, nullptr);
    for (int s = 0; s < step.sequences; s++)
        for (int t = step.first[s]; t < step.first[s + 1]; t++)
            place(m, layer, kv, index, step, s, t, qkv + (int64_t)t * width);
    AttentionUnit base = {};
    base.q = qkv;
    base.ldq = width;
    base.group = m.heads / m.kv_heads;
    base.head_dim = D;
    base.kv_heads = m.kv_heads;
    base.window = m.window;
    base.position = step.position;
    base.kv = &kv;
    base.layer = index;
    base.scale = 1.0f / sqrtf((float)D);
    base.out = w.heads.floats(T, inner);
    base.ldo = inner;
    attend_all(base, step.first, step.table, step.table_width, step.sequences, m.kv_heads);
    if (index == m.layers - 1 && keep(step, base.out, inner) && keep(step, x, m.width)) T = step.outputs;
    if (reads_codes(&layer.output)) each_row(T, [&](int r) { w.heads.quantise(r); });
    apply(&layer.output, &w.heads.of, T, x, m.width, x);
    return T;
}

void feed_forward(const WwModel &m, const WwLayer &layer, int T, float *x) {
    Workspace &w = workspace();
    normed(x, layer.ffn_norm, m.eps, m.width, T, layer.gate_up, w.normed);
    float *both = w.gate_up.take<float>((int64_t)T * 2 * m.hidden);
    apply(&layer.gate_up, &w.normed.of, T, both, 2 * m.hidden, nullptr);
    float *gated = w.gated.floats(T, m.hidden);
    const bool codes = reads_codes(&layer.down);
    each_row(T, [&](int r) {
        const float *gate = both + (int64_t)r * 2 * m.hidden;
        kernels().swiglu(gate, gate + m.hidden, m.hidden, gated + (int64_t)r * m.hidden);
        if (codes) w.gated.quantise(r);
    });
    apply(&layer.down, &w.gated.of, T, x, m.width, x);
}

}  // namespace

// Returns 0, or -1 where the step names a token, place or block outside the model or the pool.
WW_EXPORT int ww_step(const WwModel *model, const WwKv *kv, const WwStep *step) {
    const WwModel &m = *model;
    for (int i = 0; i < step->outputs; i++)
        if (step->output[i] < 0 || step->output[i] >= step->tokens) return -1;
    if (step->first[0] != 0 || step->first[step->sequences] != step->tokens) return -1;
    for (int s = 0; s < step->sequences; s++)
        if (step->first[s + 1] < step->first[s] || step->first[s] < 0) return -1;
    for (int s = 0; s < step->sequences; s++)
        for (int t = step->first[s]; t < step->first[s + 1]; t++) {
            const int at = step->position[t], page = at / WW_PAGE;
            if (step->token[t] < 0 || step->token[t] >= m.vocabulary || at < 0 || at >= m.positions) return -1;
            if (page >= step->table_width || (t > step->first[s] && at != step->position[t - 1] + 1)) return -1;
            const int lowest = m.window && at >= m.window ? (at - m.window + 1) / WW_PAGE : 0;
            for (int p = t == step->first[s] ? lowest : page; p <= page; p++) {
                const int block = step->table[(int64_t)s * step->table_width + p];
                if (block < 0 || block >= kv->blocks) return -1;
            }
        }
    float *x = workspace().x.take<float>((int64_t)step->tokens * m.width);
    each_row(step->tokens, [&](int t) { kernels().row(&m.embedding, step->token[t], x + (int64_t)t * m.width); });
    int rows = step->tokens;
    for (int layer = 0; layer < m.layers; layer++) {
        rows = attention(m, m.layer[layer], *kv, layer, *step, x);
        feed_forward(m, m.layer[layer], rows, x);
    }
    Rows &last = workspace().final;
    float *out = last.floats(step->outputs, m.width);
    for (int i = 0; i < step->outputs; i++) {
        const int64_t from = rows == step->tokens ? step->output[i] : i;
        kernels().rms_norm(x + from * m.width, m.final_norm, m.eps, m.width,
                           out + (int64_t)i * m.width);
        if (reads_codes(&m.head)) last.quantise(i);
    }
    if (step->hidden && step->outputs) memcpy(step->hidden, out, sizeof(float) * step->outputs * m.width);
    if (step->logits) apply(&m.head, &last.of, step->outputs, step->logits, m.vocabulary, nullptr);
    return 0;
}
