#include "encoder.h"

#include <algorithm>
#include <cstring>

namespace portabert {

namespace {

// Rows that go through a layer together after its attention, so that what lies between the feed-forward products stays in a cache.
constexpr int kRowBlock = 96;

// Rows of each block where there are more: blocks of like size, in whole tiles.
constexpr int block_rows(int rows, int tile_rows) {
  const int blocks = (rows + kRowBlock - 1) / kRowBlock;
  return padded((rows + blocks - 1) / blocks, tile_rows);
}

constexpr Range kSymmetric{};

// Numbers between two rows of `width` numbers: whole cache lines, and an odd number of them, so that the rows of a tile lie in different sets of a cache.
template <class Number>
int stride_of(int width) {
  constexpr int line = 64 / sizeof(Number);
  const int lines = padded(width, kDepth) / line;
  return (lines + (lines % 2 == 0)) * line;
}

int widest(const Model& model) { return std::max({model.shape.hidden, model.shape.embedding, model.inner()}); }

// Bytes between two rows that products read.
int byte_stride_of(const portabert_shape& shape, int width) { return shape.precision ? 2 * stride_of<std::uint16_t>(width) : stride_of<std::uint8_t>(width); }

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
        stride_(stride_of<float>(widest(model))),
        byte_stride_(byte_stride_of(shape_, widest(model))) {}

  void run(float* logits) {
    embed();
    const float* factors = model_.projection.width ? nullptr : model_.embedding_norm.residual;
    for (const Layer& layer : model_.layers) {
      attend(layer);
      const int rows = layer.first_only ? texts_.count() : texts_.tokens(), step = block_rows(rows, kernels_.tile_rows);
      for (int begin = 0; begin < rows; begin += step) feed(layer, factors, begin, std::min(begin + step, rows));
      factors = layer.norm.residual;
    }
    read(logits);
  }

 private:
  bool bf16() const { return shape_.precision; }
  float* x(int row) const { return space_.x.get() + std::int64_t{row} * stride_; }
  std::uint8_t* bytes(int row) const { return space_.bytes.get() + std::int64_t{row} * byte_stride_; }
  float* context(int row) const { return space_.context.get() + std::int64_t{row} * stride_; }

  Rows rows(const float* floats, int row) const {
    return {floats, stride_, bytes(row), byte_stride_, space_.scales.get() + row, kSymmetric.zero_point};
  }

  // Where rows from `row` on go that products read.
  Reduced reduced(int row) const {
    return {bytes(row), byte_stride_, space_.scales.get() + row, kSymmetric, bf16()};
  }

  // Where a product goes, what it is added to, and what is done to it at last.
  struct Out {
    float* floats = nullptr;
    std::uint16_t* bf16 = nullptr;
    int stride = 0;
    const float *residual = nullptr, *factors = nullptr;
    Activation activation = Activation::none;
  };

  // Multiplies rows by a weight, each member its share of the columns.
  void multiply(const Product& product, const Rows& rows, int num_rows, const Out& out) const {
    crew_.share(product.panels(), [&](int begin, int end) {
      kernels_.multiply({&product, rows, num_rows, begin, end, out.floats, out.bf16, out.stride, out.residual, stride_, out.factors, out.activation});
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
          kernels_.embed(model_.words.row(id), model_.positions.row(position), shape_.embedding, embedded + std::int64_t{start + i} * stride_);
        }
        kernels_.norm({embedded + std::int64_t{start} * stride_, stride_, texts_.length(text), shape_.embedding, norm.weight, norm.bias, norm.epsilon,
                       reduced(start)});
      }
    });
    crew_.meet();
    if (!projected) return;
    const int tokens = texts_.tokens();
    multiply(model_.projection, rows(embedded, 0), tokens, {.floats = x(0), .stride = stride_});
    reduce(x(0), shape_.hidden, tokens);
  }

  // Turns rows into what products read.
  void reduce(const float* floats, int width, int num_rows) const {
    crew_.share(num_rows, [&](int begin, int end) {
      kernels_.reduce({floats + std::int64_t{begin} * stride_, stride_, end - begin, width, reduced(begin)});
    });
    crew_.meet();
  }

  // Gives each token's mixture of the values, as products read it; or of first tokens alone, and then x is theirs, too.
  void attend(const Layer& layer) const {
    const int tokens = texts_.tokens();
    std::uint16_t *key_value = space_.key_value.get(), *query = key_value;
    int stride = stride_of<std::uint16_t>(3 * inner_), query_stride = stride, key = inner_;
    if (layer.first_only) {
      stride = stride_of<std::uint16_t>(2 * inner_), query_stride = stride_of<std::uint16_t>(inner_), query = space_.query.get(), key = 0;
      multiply(layer.key_value, rows(x(0), 0), tokens, {.bf16 = key_value, .stride = stride});
      keep_first();
      multiply(layer.query, rows(x(0), 0), texts_.count(), {.bf16 = query, .stride = query_stride});
    } else {
      multiply(layer.query_key_value, rows(x(0), 0), tokens, {.bf16 = key_value, .stride = stride});
    }
    crew_.share(texts_.count() * shape_.heads, [&](int begin, int end) {
      for (int item = begin; item < end; ++item) {
        const int text = item / shape_.heads, head = item % shape_.heads, start = texts_.start(text);
        const int row = layer.first_only ? text : start, at = head * shape_.head_size;
        const std::uint16_t* keys = key_value + std::int64_t{start} * stride + key + at;
        const float* bias = model_.relative_bias;
        if (bias) bias += std::int64_t{head} * model_.relative_stride + shape_.max_length - 1;
        kernels_.attend({query + std::int64_t{row} * query_stride + at, keys, keys + inner_, query_stride, stride,
                         layer.first_only ? 1 : texts_.length(text), texts_.length(text), shape_.head_size, bias,
                         context(row) + at, stride_, space_.scratch.get() + crew_.index * space_.scratch_stride});
      }
    });
    crew_.meet();
    reduce(context(0), inner_, layer.first_only ? texts_.count() : tokens);
  }

  // Moves the row of each text's first token to the front.
  void keep_first() const {
    if (crew_.index == 0)
      for (int text = 1; text < texts_.count(); ++text) {
        const int from = texts_.start(text);
        std::memmove(x(text), x(from), sizeof(float) * stride_);
        std::memmove(bytes(text), bytes(from), byte_stride_);
        space_.scales.get()[text] = space_.scales.get()[from];
      }
    crew_.meet();
  }

  // The rest of a layer, of some rows: output, norm, up, down, norm; `factors` are what x is multiplied by as a residual.
  void feed(const Layer& layer, const float* factors, int begin, int end) const {
    const int num_rows = end - begin, stride = stride_of<float>(shape_.intermediate), byte_stride = byte_stride_of(shape_, shape_.intermediate);
    float* raised = space_.raised.get();
    multiply(layer.output, rows(context(begin), begin), num_rows, {.floats = x(begin), .stride = stride_, .residual = x(begin), .factors = factors});
    normalize(layer.attention_norm, begin, num_rows);
    multiply(layer.up, rows(x(begin), begin), num_rows, {.floats = raised, .stride = stride, .activation = static_cast<Activation>(shape_.activation)});
    const Range range{shape_.zero_point, shape_.floor};
    std::uint8_t* raised_bytes = space_.raised_bytes.get();
    float* raised_scales = space_.raised_scales.get();
    crew_.share(num_rows, [&](int first, int last) {
      kernels_.reduce({raised + std::int64_t{first} * stride, stride, last - first, shape_.intermediate,
                       {raised_bytes + std::int64_t{first} * byte_stride, byte_stride, raised_scales + first, range, bf16()}});
    });
    crew_.meet();
    multiply(layer.down, {raised, stride, raised_bytes, byte_stride, raised_scales, range.zero_point}, num_rows,
             {.floats = x(begin), .stride = stride_, .residual = x(begin), .factors = layer.attention_norm.residual});
    normalize(layer.norm, begin, num_rows);
  }

  void normalize(const Norm& norm, int begin, int num_rows) const {
    crew_.share(num_rows, [&](int first, int last) {
      const int row = begin + first;
      kernels_.norm({x(row), stride_, last - first, shape_.hidden, norm.weight, norm.bias, norm.epsilon, reduced(row)});
    });
    crew_.meet();
  }

  void read(float* logits) const {
    const int num_rows = shape_.per_token ? texts_.tokens() : texts_.count();
    const float* in = x(0);
    int in_stride = stride_;
    float *out = space_.head.get(), *next = space_.next_head.get();
    for (const Step& step : model_.head) {
      const int out_stride = padded(step.product.width, kLanes);
      multiply(step.product, {in, in_stride, nullptr, 0, nullptr, 0}, num_rows, {.floats = out, .stride = out_stride, .activation = step.activation});
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
  const int inner_, stride_, byte_stride_;
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
  const std::int64_t tokens = num_tokens, stride = stride_of<float>(widest(model));
  const std::int64_t block = std::min(num_tokens, kRowBlock + kSpareRows), raised_width = stride_of<float>(shape.intermediate);
  x.reserve(tokens * stride);
  if (model.projection.width) embedded.reserve(tokens * stride);
  bytes.reserve((tokens + kSpareRows) * byte_stride_of(shape, widest(model)));
  scales.reserve(tokens);
  context.reserve(tokens * stride);
  query.reserve((tokens + kSpareRows) * stride_of<std::uint16_t>(model.inner()) + kSummed);
  key_value.reserve((tokens + kSpareRows) * stride_of<std::uint16_t>(3 * model.inner()) + kSummed);
  raised.reserve(block * raised_width);
  raised_bytes.reserve((block + kSpareRows) * byte_stride_of(shape, shape.intermediate));
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
