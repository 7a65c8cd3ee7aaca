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
    const int D = m.head_dim, inner = m.num_attention_heads * D, shared = m.num_key_value_heads * D;
    const int at = step.position[t];
    const float *cos = m.cos + (int64_t)at * (D / 2), *sin = m.sin + (int64_t)at * (D / 2);
    for (int h = 0; h < m.num_attention_heads + m.num_key_value_heads; h++) {
        float *x = qkv + h * D;
        const float *norm = h < m.num_attention_heads ? layer.q_norm : layer.k_norm;
        if (norm) kernels().rms_norm(x, norm, m.eps, D, x);
        kernels().rope(x, cos, sin, D);
    }
    const int block = step.table[(int64_t)s * step.table_width + at / WW_PAGE];
    kernels().append(&kv, index, m.num_key_value_heads, D, block, at % WW_PAGE, qkv + inner, qkv + inner + shared);
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
    int T = step.tokens, D = m.head_dim, inner = m.num_attention_heads * D, width = layer.qkv.rows;
    normed(x, layer.attention_norm, m.eps, m.hidden_size, T, layer.qkv, w.normed);
    float *qkv = w.qkv.take<float>((int64_t)T * width);
    apply(&layer.qkv, &w.normed.of, T, qkv, width, nullptr);
    for (int s = 0; s < step.sequences; s++)
        for (int t = step.first[s]; t < step.first[s + 1]; t++)
            place(m, layer, kv, index, step, s, t, qkv + (int64_t)t * width);
    AttentionUnit base = {};
    base.q = qkv;
    base.ldq = width;
    base.group = m.num_attention_heads / m.num_key_value_heads;
    base.head_dim = D;
    base.kv_heads = m.num_key_value_heads;
    base.window = m.sliding_window;
    base.position = step.position;
    base.kv = &kv;
    base.layer = index;
    base.scale = 1.0f / sqrtf((float)D);
    base.out = w.heads.floats(T, inner);
    base.ldo = inner;
    attend_all(base, step.first, step.table, step.table_width, step.sequences, m.num_key_value_heads);
    const bool last = index == m.num_hidden_layers - 1;
    if (last && keep(step, base.out, inner) && keep(step, x, m.hidden_size)) T = step.outputs;
    if (reads_codes(&layer.output)) each_row(T, [&](int r) { w.heads.quantise(r); });
    apply(&layer.output, &w.heads.of, T, x, m.hidden_size, x);
    return T;
}

void feed_forward(const WwModel &m, const WwLayer &layer, int T, float *x) {
    Workspace &w = workspace();
    normed(x, layer.ffn_norm, m.eps, m.hidden_size, T, layer.gate_up, w.normed);
    float *both = w.gate_up.take<float>((int64_t)T * 2 * m.intermediate_size);
    apply(&layer.gate_up, &w.normed.of, T, both, 2 * m.intermediate_size, nullptr);
    float *gated = w.gated.floats(T, m.intermediate_size);
    const bool codes = reads_codes(&layer.down);
    each_row(T, [&](int r) {
        const float *gate = both + (int64_t)r * 2 * m.intermediate_size;
        float *out = gated + (int64_t)r * m.intermediate_size;
        kernels().swiglu(gate, gate + m.intermediate_size, m.intermediate_size, out);
        if (codes) w.gated.quantise(r);
    });
    apply(&layer.down, &w.gated.of, T, x, m.hidden_size, x);
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
            if (step->token[t] < 0 || step->token[t] >= m.vocab_size) return -1;
            if (at < 0 || at >= m.max_position_embeddings) return -1;
            if (page >= step->table_width || (t > step->first[s] && at != step->position[t - 1] + 1)) return -1;
            const int lowest = m.sliding_window && at >= m.sliding_window ? (at - m.sliding_window + 1) / WW_PAGE : 0;
            for (int p = t == step->first[s] ? lowest : page; p <= page; p++) {
                const int block = step->table[(int64_t)s * step->table_width + p];
                if (block < 0 || block >= kv->blocks) return -1;
            }
        }
    float *x = workspace().x.take<float>((int64_t)step->tokens * m.hidden_size);
    each_row(step->tokens, [&](int t) { kernels().row(&m.embedding, step->token[t], x + (int64_t)t * m.hidden_size); });
    int rows = step->tokens;
    for (int layer = 0; layer < m.num_hidden_layers; layer++) {
        rows = attention(m, m.layer[layer], *kv, layer, *step, x);
        feed_forward(m, m.layer[layer], rows, x);
    }
    Rows &last = workspace().final;
    float *out = last.floats(step->outputs, m.hidden_size);
    for (int i = 0; i < step->outputs; i++) {
        const int64_t from = rows == step->tokens ? step->output[i] : i;
        kernels().rms_norm(x + from * m.hidden_size, m.final_norm, m.eps, m.hidden_size,
                           out + (int64_t)i * m.hidden_size);
        if (reads_codes(&m.head)) last.quantise(i);
    }
    if (step->hidden_states && step->outputs)
        memcpy(step->hidden_states, out, sizeof(float) * step->outputs * m.hidden_size);
    if (step->logits) apply(&m.head, &last.of, step->outputs, step->logits, m.vocab_size, nullptr);
    return 0;
}
