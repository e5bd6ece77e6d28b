#include "encoder.h"

#include <algorithm>
#include <cstring>

namespace portabert {

namespace {

// Rows that go through a layer together after its attention, so that what lies between the feed-forward products stays in a cache.
constexpr int kRowBlock = 96;

// Rows of each block where there are more: blocks of like size, in whole tiles of twelve.
constexpr int block_rows(int rows) {
  const int blocks = (rows + kRowBlock - 1) / kRowBlock;
  return padded((rows + blocks - 1) / blocks, 12);
}

constexpr Range kSymmetric{};

// Of a number as products read it.
int bytes_of(const portabert_shape& shape) { return shape.precision ? 2 : 1; }

// Numbers between two rows, of any but what lies between the feed-forward products.
int widest(const Model& model) { return padded(std::max({model.shape.hidden, model.shape.embedding, model.inner()}), kDepth); }

// One pass over texts: what every step needs.
class Pass {
 public:
  Pass(const Model& model, const Kernels& kernels, const Texts& texts, const Workspace& space, const Crew& crew)
      : model_(model),
        shape_(model.shape),
        kernels_(kernels),
        texts_(texts),
        space_(space),
        crew_(crew),
        inner_(model.inner()),
        widest_(widest(model)),
        number_bytes_(bytes_of(shape_)) {}

  void run(float* logits) {
    embed();
    const float* factors = model_.projection.width ? nullptr : model_.embedding_norm.residual;
    for (const Layer& layer : model_.layers) {
      attend(layer);
      const int rows = layer.first_only ? texts_.count() : texts_.tokens(), step = block_rows(rows);
      for (int begin = 0; begin < rows; begin += step) feed(layer, factors, begin, std::min(begin + step, rows));
      factors = layer.norm.residual;
    }
    read(logits);
  }

 private:
  float* x(int row) const { return space_.x.get() + std::int64_t{row} * widest_; }
  std::uint8_t* bytes(int row) const { return space_.bytes.get() + std::int64_t{row} * widest_ * number_bytes_; }
  float* context(int row) const { return space_.context.get() + std::int64_t{row} * widest_; }

  Rows rows(const float* floats, int row) const {
    return {floats, widest_, bytes(row), widest_ * number_bytes_, space_.scales.get() + row, kSymmetric.zero_point};
  }

  // Turns a row into what products read.
  void reduce(const float* floats, int width, Range range, std::uint8_t* to, float* scale) const {
    number_bytes_ == 1 ? kernels_.quantize(floats, width, range, to, scale) : kernels_.round_to_bf16(floats, width, to);
  }
  void reduce(const float* floats, int width, int row) const {
    reduce(floats, width, kSymmetric, bytes(row), space_.scales.get() + row);
  }

  // Multiplies rows by a weight, each member its share of the columns.
  void multiply(const Product& product, const Rows& rows, int num_rows, float* out, int out_stride,
                Activation activation = Activation::none, const float* residual = nullptr, const float* factors = nullptr) const {
    crew_.share(product.panels(), [&](int begin, int end) {
      kernels_.multiply({&product, rows, num_rows, begin, end, out, out_stride, residual, widest_, factors, activation});
    });
    crew_.meet();
  }

  void embed() const {
    const Norm& norm = model_.embedding_norm;
    const bool projected = model_.projection.width;
    float* embedded = projected ? space_.embedded.get() : x(0);
    crew_.share(texts_.count(), [&](int begin, int end) {
      for (int text = begin; text < end; ++text) {
        const std::int32_t first = texts_.cu_seqlens[texts_.begin + text];
        const int start = texts_.start(text);
        int counted = 0;
        for (int i = 0; i < texts_.length(text); ++i) {
          const std::int64_t id = texts_.input_ids[first + i];
          std::int64_t position = i;
          if (shape_.padding_idx >= 0) position = id == shape_.padding_idx ? shape_.padding_idx : shape_.padding_idx + ++counted;
          if (shape_.types > 1) position += texts_.token_type_ids[first + i] * shape_.positions;
          float* row = embedded + std::int64_t{start + i} * widest_;
          kernels_.embed(model_.words.row(id), model_.positions.row(position), shape_.embedding, row);
          kernels_.norm(row, shape_.embedding, norm.weight, norm.bias, norm.epsilon);
          reduce(row, shape_.embedding, start + i);
        }
      }
    });
    crew_.meet();
    if (!projected) return;
    const int tokens = texts_.tokens();
    multiply(model_.projection, rows(embedded, 0), tokens, x(0), widest_);
    crew_.share(tokens, [&](int begin, int end) {
      for (int row = begin; row < end; ++row) reduce(x(row), shape_.hidden, row);
    });
    crew_.meet();
  }

  // Gives each token's mixture of the values, as products read it; or of first tokens alone, and then x is theirs, too.
  void attend(const Layer& layer) const {
    const int tokens = texts_.tokens();
    float *key_value = space_.key_value.get(), *query = key_value;
    int stride = padded(3 * inner_, kLanes), query_stride = stride, key = inner_;
    if (layer.first_only) {
      stride = padded(2 * inner_, kLanes), query_stride = padded(inner_, kLanes), query = space_.query.get(), key = 0;
      multiply(layer.key_value, rows(x(0), 0), tokens, key_value, stride);
      keep_first();
      multiply(layer.query, rows(x(0), 0), texts_.count(), query, query_stride);
    } else {
      multiply(layer.query_key_value, rows(x(0), 0), tokens, key_value, stride);
    }
    crew_.share(texts_.count() * shape_.heads, [&](int begin, int end) {
      for (int item = begin; item < end; ++item) {
        const int text = item / shape_.heads, head = item % shape_.heads, start = texts_.start(text);
        const int row = layer.first_only ? text : start, at = head * shape_.head_size;
        const float* keys = key_value + std::int64_t{start} * stride + key + at;
        const float* bias = model_.relative_bias;
        if (bias) bias += std::int64_t{head} * model_.relative_stride + shape_.max_length - 1;
        kernels_.attend({query + std::int64_t{row} * query_stride + at, keys, keys + inner_, query_stride, stride,
                         layer.first_only ? 1 : texts_.length(text), texts_.length(text), shape_.head_size, bias,
                         context(row) + at, widest_, space_.scratch.get() + crew_.index * space_.scratch_stride});
      }
    });
    crew_.meet();
    crew_.share(layer.first_only ? texts_.count() : tokens, [&](int begin, int end) {
      for (int row = begin; row < end; ++row) reduce(context(row), inner_, row);
    });
    crew_.meet();
  }

  // Moves the row of each text's first token to the front.
  void keep_first() const {
    if (crew_.index == 0)
      for (int text = 1; text < texts_.count(); ++text) {
        const int from = texts_.start(text);
        std::memmove(x(text), x(from), sizeof(float) * widest_);
        std::memmove(bytes(text), bytes(from), static_cast<std::size_t>(widest_) * number_bytes_);
        space_.scales.get()[text] = space_.scales.get()[from];
      }
    crew_.meet();
  }

  // The rest of a layer, of some rows: output, norm, up, down, norm; `factors` are what x is multiplied by as a residual.
  void feed(const Layer& layer, const float* factors, int begin, int end) const {
    const int num_rows = end - begin, width = padded(shape_.intermediate, kDepth);
    float* raised = space_.raised.get();
    multiply(layer.output, rows(context(begin), begin), num_rows, x(begin), widest_, Activation::none, x(begin), factors);
    normalize(layer.attention_norm, begin, num_rows);
    multiply(layer.up, rows(x(begin), begin), num_rows, raised, width, static_cast<Activation>(shape_.activation));
    const Range range{shape_.zero_point, shape_.floor};
    std::uint8_t* raised_bytes = space_.raised_bytes.get();
    float* raised_scales = space_.raised_scales.get();
    crew_.share(num_rows, [&](int first, int last) {
      for (std::int64_t row = first; row < last; ++row)
        reduce(raised + row * width, shape_.intermediate, range, raised_bytes + row * width * number_bytes_, raised_scales + row);
    });
    crew_.meet();
    multiply(layer.down, {raised, width, raised_bytes, width * number_bytes_, raised_scales, range.zero_point}, num_rows, x(begin), widest_,
             Activation::none, x(begin), layer.attention_norm.residual);
    normalize(layer.norm, begin, num_rows);
  }

  void normalize(const Norm& norm, int begin, int num_rows) const {
    crew_.share(num_rows, [&](int first, int last) {
      for (int row = begin + first; row < begin + last; ++row) {
        kernels_.norm(x(row), shape_.hidden, norm.weight, norm.bias, norm.epsilon);
        reduce(x(row), shape_.hidden, row);
      }
    });
    crew_.meet();
  }

  void read(float* logits) const {
    const int num_rows = shape_.per_token ? texts_.tokens() : texts_.count();
    const float* in = x(0);
    int in_stride = widest_;
    float *out = space_.head.get(), *next = space_.next_head.get();
    for (const Step& step : model_.head) {
      const int out_stride = padded(step.product.width, kLanes);
      multiply(step.product, {in, in_stride, nullptr, 0, nullptr, 0}, num_rows, out, out_stride, step.activation);
      in = out, in_stride = out_stride;
      std::swap(out, next);
    }
    const int labels = model_.num_labels();
    crew_.share(num_rows, [&](int begin, int end) {
      for (int row = begin; row < end; ++row)
        std::copy_n(in + std::int64_t{row} * in_stride, labels, logits + std::int64_t{row} * labels);
    });
  }

  const Model& model_;
  const portabert_shape& shape_;
  const Kernels& kernels_;
  const Texts& texts_;
  const Workspace& space_;
  const Crew& crew_;
  const int inner_, widest_, number_bytes_;
};

}  // namespace

template <class Number>
Number* Buffer<Number>::reserve(std::int64_t count) {
  if (count > count_) {
    memory_.reset();
    count_ = 0;
    const auto bytes = static_cast<std::size_t>(count) * sizeof(Number);
    memory_.reset(static_cast<Number*>(::operator new(bytes, std::align_val_t{64})));
    std::memset(memory_.get(), 0, bytes);
    count_ = count;
  }
  return memory_.get();
}

void Workspace::reserve(const Model& model, int num_tokens, int longest, int crew_size) {
  const portabert_shape& shape = model.shape;
  const std::int64_t tokens = num_tokens, stride = widest(model);
  const std::int64_t block = std::min(num_tokens, kRowBlock), raised_width = padded(shape.intermediate, kDepth);
  x.reserve(tokens * stride);
  if (model.projection.width) embedded.reserve(tokens * stride);
  bytes.reserve((tokens + kSpareRows) * stride * bytes_of(shape));
  scales.reserve(tokens);
  context.reserve(tokens * stride);
  query.reserve(tokens * padded(model.inner(), kLanes));
  key_value.reserve(tokens * padded(3 * model.inner(), kLanes) + 2 * kLanes);  // lanes beyond a head's last number are read
  raised.reserve(block * raised_width);
  raised_bytes.reserve((block + kSpareRows) * raised_width * bytes_of(shape));
  raised_scales.reserve(block);
  std::int64_t head_width = 0;
  for (const Step& step : model.head) head_width = std::max<std::int64_t>(head_width, padded(step.product.width, kLanes));
  head.reserve(tokens * head_width);
  next_head.reserve(tokens * head_width);
  scratch_stride = padded(static_cast<int>(attend_scratch(longest, shape.head_size)), kLanes);
  scratch.reserve(scratch_stride * crew_size);
}

void encode(const Model& model, const Kernels& kernels, const Texts& texts, const Workspace& space, const Crew& crew, float* logits) {
  Pass(model, kernels, texts, space, crew).run(logits);
}

}  // namespace portabert
