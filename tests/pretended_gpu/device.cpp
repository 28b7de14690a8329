// A pretended CUDA device in a CPU build of PyTorch, whose memory is main memory.
//
// Tensors say that they lie on "cuda:0", and autograd, autocast and every library see a GPU. Each
// operation is computed by the CPU's kernel over the same memory, once it is seen that no argument
// lies elsewhere: what would fail on a GPU for a tensor left behind fails here. Streams do nothing.

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/stack.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/library.h>

#include <cstring>
#include <limits>
#include <set>
#include <string>
#include <vector>

using at::Tensor;
using c10::DeviceIndex;

namespace {

const auto kKind = c10::DeviceType::CUDA;
const c10::Device kDevice(kKind, 0);
const c10::Device kHost(c10::DeviceType::CPU);

// Memory

struct DeviceMemory final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    void* data = size ? c10::alloc_cpu(size) : nullptr;
    return {data, data, &c10::free_cpu, kDevice};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &c10::free_cpu; }
  void copy_data(void* to, const void* from, size_t size) const override {
    std::memcpy(to, from, size);
  }
};
DeviceMemory device_memory;

// Tensors are told to be pinned by their address.
struct PinnedMemory final : c10::Allocator {
  static std::set<const void*>& addresses() {
    static std::set<const void*> known;
    return known;
  }
  static void release(void* data) {
    addresses().erase(data);
    c10::free_cpu(data);
  }
  c10::DataPtr allocate(size_t size) override {
    void* data = c10::alloc_cpu(size ? size : 1);
    addresses().insert(data);
    return {data, data, &release, kHost};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t size) const override {
    std::memcpy(to, from, size);
  }
};
PinnedMemory pinned_memory;

// What PyTorch asks of an accelerator

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kKind; }
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const noexcept override { return stream(); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream given) const noexcept override { return given; }
  DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const DeviceIndex) const noexcept override {}
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void recordDataPtrOnStream(const c10::DataPtr&, const c10::Stream&) const override {}
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, kDevice); }
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard);

struct CUDAHooks final : at::CUDAHooksInterface {
  explicit CUDAHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  int getNumGPUs() const override { return 1; }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex current_device() const override { return 0; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  DeviceIndex exchangeDevice(DeviceIndex) const override { return 0; }
  DeviceIndex maybeExchangeDevice(DeviceIndex) const override { return 0; }
  void setCurrentDevice(DeviceIndex) const override {}
  void deviceSynchronize(DeviceIndex) const override {}
  c10::Device getDeviceFromPtr(void*) const override { return kDevice; }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &pinned_memory; }
  bool isPinnedPtr(const void* data) const override {
    return PinnedMemory::addresses().count(data) > 0;
  }
  // Of random numbers there is one source, the CPU's.
  const at::Generator& getDefaultGenerator(DeviceIndex) const override {
    static at::Generator generator = at::detail::getDefaultCPUGenerator();
    return generator;
  }
  at::Generator getNewGenerator(DeviceIndex) const override {
    return at::make_generator<at::CPUGeneratorImpl>();
  }
};
using at::CUDAHooksArgs;
using at::CUDAHooksRegistry;
using at::RegistererCUDAHooksRegistry;
REGISTER_CUDA_HOOKS(CUDAHooks);

// The same memory, seen from the other side

Tensor seen_from(c10::Device place, c10::DispatchKey key, c10::Allocator* allocator, const Tensor& t) {
  auto* owner = new c10::Storage(t.storage());
  auto release = [](void* held) { delete static_cast<c10::Storage*>(held); };
  auto storage = c10::make_intrusive<c10::StorageImpl>(
      c10::StorageImpl::use_byte_size_t(), owner->nbytes(),
      c10::DataPtr(owner->mutable_data(), owner, release, place), allocator, true);
  auto seen = at::detail::make_tensor<c10::TensorImpl>(
      c10::Storage(storage), c10::DispatchKeySet(key), t.dtype());
  seen.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
  return seen;
}

Tensor on_host(const Tensor& t) {
  if (!t.defined() || !t.is_cuda()) return t;
  return seen_from(kHost, c10::DispatchKey::CPU, c10::GetAllocator(at::kCPU), t);
}

Tensor on_device(const Tensor& t) {
  if (!t.defined() || !t.is_cpu()) return t;
  return seen_from(kDevice, c10::DispatchKey::CUDA, &device_memory, t);
}

// All operations that have nothing of their own below

// A GPU takes the numbers of rows from anywhere.
const std::set<std::string> kIndexed = {
    "aten::index.Tensor", "aten::index.Tensor_out", "aten::index_put_", "aten::index_put",
    "aten::_index_put_impl_"};

class Call {
 public:
  Call(const c10::OperatorHandle& op, torch::jit::Stack* stack)
      : schema_(op.schema()), stack_(stack), name_(toString(op.operator_name())) {}

  void run(const c10::OperatorHandle& op) {
    const auto count = schema_.arguments().size();
    for (size_t n = 0; n < count; n++) {
      auto& value = (*stack_)[stack_->size() - count + n];
      argument_ = schema_.arguments()[n].name();
      if (value.isTensor()) {
        value = taken(value.toTensor());
      } else if (value.isTensorList()) {
        c10::List<Tensor> list;
        for (const Tensor& each : value.toTensorVector()) list.push_back(taken(each));
        value = list;
      } else if (value.isOptionalTensorList()) {
        c10::List<std::optional<Tensor>> list;
        for (std::optional<Tensor> each : value.toOptionalTensorList())
          list.push_back(each ? std::optional<Tensor>(taken(*each)) : std::nullopt);
        value = list;
      } else if (value.isDevice()) {
        value = c10::IValue(kHost);
      }
    }
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack_);
    for (const auto& [given, host] : pairs_) {
      if (given.sizes() == host.sizes()) continue;
      given.resize_(host.sizes());  // where results were to be written
      on_host(given).copy_(host);
    }
    for (size_t n = 1; n <= schema_.returns().size(); n++) {
      auto& value = (*stack_)[stack_->size() - n];
      if (value.isTensor()) {
        value = returned(value.toTensor());
      } else if (value.isTensorList()) {
        c10::List<Tensor> list;
        for (const Tensor& each : value.toTensorVector()) list.push_back(returned(each));
        value = list;
      }
    }
  }

 private:
  Tensor taken(const Tensor& t) {
    if (!t.defined()) return t;
    TORCH_CHECK(
        t.is_cuda() || t.dim() == 0 || kIndexed.count(name_),
        "Expected all tensors to be on the same device, but found ", t.device(), " in argument ",
        argument_, " of ", name_, " beside ", kDevice);
    if (!t.is_cuda()) return t;
    pairs_.emplace_back(t, on_host(t));
    return pairs_.back().second;
  }

  Tensor returned(const Tensor& t) const {
    for (const auto& [given, host] : pairs_)
      if (host.is_same(t)) return given;  // changed in place
    return on_device(t);
  }

  const c10::FunctionSchema& schema_;
  torch::jit::Stack* stack_;
  std::string name_, argument_;
  std::vector<std::pair<Tensor, Tensor>> pairs_;
};

void any_operation(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  Call(op, stack).run(op);
}

// Those that make tensors, or views of them

Tensor empty(c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
             std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic_symint(
      size, &device_memory, c10::DispatchKeySet(c10::DispatchKey::CUDA), c10::dtype_or_default(dtype),
      format);
}

Tensor empty_strided(c10::SymIntArrayRef size, c10::SymIntArrayRef stride,
                     std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                     std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_symint_generic(
      size, stride, &device_memory, c10::DispatchKeySet(c10::DispatchKey::CUDA),
      c10::dtype_or_default(dtype));
}

Tensor& copy_(Tensor& self, const Tensor& source, bool) {
  on_host(self).copy_(on_host(source));
  return self;
}

const Tensor& resize_(const Tensor& self, c10::SymIntArrayRef size, std::optional<at::MemoryFormat>) {
  auto* impl = self.unsafeGetTensorImpl();
  auto* storage = impl->unsafe_storage().unsafeGetStorageImpl();
  const auto sizes = C10_AS_INTARRAYREF_SLOW(size);
  const auto numbers = c10::multiply_integers(sizes) + impl->storage_offset();
  const size_t needed = numbers * impl->dtype().itemsize();
  if (storage->nbytes() < needed) {
    auto data = device_memory.allocate(needed);
    if (storage->nbytes()) std::memcpy(data.mutable_get(), storage->data(), storage->nbytes());
    storage->set_data_ptr_noswap(std::move(data));
    storage->set_nbytes(needed);
  }
  impl->set_sizes_contiguous(sizes);
  return self;
}

Tensor view(const Tensor& self, c10::SymIntArrayRef size) {
  return at::native::view(self, C10_AS_INTARRAYREF_SLOW(size));
}

Tensor as_strided(const Tensor& self, c10::SymIntArrayRef size, c10::SymIntArrayRef stride,
                  std::optional<c10::SymInt> offset) {
  std::optional<int64_t> begin;
  if (offset) begin = offset->guard_int(__FILE__, __LINE__);
  return at::native::as_strided_tensorimpl(
      self, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), begin);
}

Tensor reshape_alias(const Tensor& self, c10::SymIntArrayRef size, c10::SymIntArrayRef stride) {
  return at::native::_reshape_alias(
      self, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
}

Tensor& set_to_part(Tensor& self, c10::Storage source, c10::SymInt offset, c10::SymIntArrayRef size,
                    c10::SymIntArrayRef stride) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(source);
  impl->set_sizes_and_strides(
      C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride),
      offset.guard_int(__FILE__, __LINE__));
  return self;
}

Tensor& set_to_tensor(Tensor& self, const Tensor& source) {
  return set_to_part(
      self, source.storage(), source.sym_storage_offset(), source.sym_sizes(), source.sym_strides());
}

Tensor& set_to_storage(Tensor& self, c10::Storage source) {
  const int64_t numbers = source.nbytes() / self.dtype().itemsize();
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(source);
  self.unsafeGetTensorImpl()->set_sizes_contiguous({numbers});
  return self;
}

// Those that a GPU has otherwise than a CPU

Tensor wide_mm(const Tensor& left, const Tensor& right, at::ScalarType dtype) {
  TORCH_CHECK(left.is_cuda() && right.is_cuda(), "mm: factors lie on several devices");
  return on_device(at::mm(on_host(left).to(dtype), on_host(right).to(dtype)));
}

Tensor wide_bmm(const Tensor& left, const Tensor& right, at::ScalarType dtype) {
  TORCH_CHECK(left.is_cuda() && right.is_cuda(), "bmm: factors lie on several devices");
  return on_device(at::bmm(on_host(left).to(dtype), on_host(right).to(dtype)));
}

Tensor widened(const Tensor& t, bool is_wide) {
  return is_wide ? on_host(t).to(at::kFloat) : on_host(t);
}

Tensor softmax(const Tensor& t, int64_t dim, bool half_to_float) {
  return on_device(at::_softmax(widened(t, half_to_float), dim, false));
}

Tensor log_softmax(const Tensor& t, int64_t dim, bool half_to_float) {
  return on_device(at::_log_softmax(widened(t, half_to_float), dim, false));
}

Tensor softmax_backward(const Tensor& dy, const Tensor& y, int64_t dim, at::ScalarType dtype) {
  auto wide = dy.scalar_type();
  return on_device(at::_softmax_backward_data(on_host(dy), on_host(y), dim, wide).to(dtype));
}

Tensor log_softmax_backward(const Tensor& dy, const Tensor& y, int64_t dim, at::ScalarType dtype) {
  auto wide = dy.scalar_type();
  return on_device(at::_log_softmax_backward_data(on_host(dy), on_host(y), dim, wide).to(dtype));
}

Tensor mse_loss(const Tensor& t, const Tensor& target, int64_t reduction) {
  TORCH_CHECK(t.is_cuda() && target.is_cuda(), "mse_loss: tensors lie on several devices");
  return on_device(at::mse_loss(on_host(t), on_host(target), reduction));
}

Tensor smooth_l1_loss(const Tensor& t, const Tensor& target, int64_t reduction, double beta) {
  TORCH_CHECK(t.is_cuda() && target.is_cuda(), "smooth_l1_loss: tensors lie on several devices");
  return on_device(at::smooth_l1_loss(on_host(t), on_host(target), reduction, beta));
}

// By its definition: the choice among its kernels knows none for this device.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& mask,
                 double dropout, bool is_causal, std::optional<double> scale, bool is_grouped) {
  auto added = mask;
  if (mask && mask->scalar_type() == at::kBool)
    added = at::zeros_like(*mask, q.options())
                .masked_fill_(mask->logical_not(), -std::numeric_limits<double>::infinity());
  return std::get<0>(at::_scaled_dot_product_attention_math(
      q, k, v, added, dropout, is_causal, std::nullopt, scale, is_grouped));
}

TORCH_LIBRARY_IMPL(_, CUDA, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&any_operation>());
}

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("copy_", copy_);
  m.impl("resize_", resize_);
  m.impl("view", view);
  m.impl("as_strided", as_strided);
  m.impl("_reshape_alias", reshape_alias);
  m.impl("unfold", at::native::unfold);
  m.impl("set_.source_Storage_storage_offset", set_to_part);
  m.impl("set_.source_Tensor", set_to_tensor);
  m.impl("set_.source_Storage", set_to_storage);
  m.impl("mm.dtype", wide_mm);
  m.impl("bmm.dtype", wide_bmm);
  m.impl("_softmax", softmax);
  m.impl("_log_softmax", log_softmax);
  m.impl("_softmax_backward_data", softmax_backward);
  m.impl("_log_softmax_backward_data", log_softmax_backward);
  m.impl("mse_loss", mse_loss);
  m.impl("smooth_l1_loss", smooth_l1_loss);
}

TORCH_LIBRARY_IMPL(aten, AutogradCUDA, m) { m.impl("scaled_dot_product_attention", attention); }

const bool has_memory = (c10::SetAllocator(kKind, &device_memory, 100), true);

}  // namespace

// A CPU build knows by these that it has no accelerator. This library is loaded before PyTorch, so
// that its answers come first.
namespace at::accelerator {
#define ANSWER __attribute__((visibility("default")))
ANSWER std::optional<c10::DeviceType> getAccelerator(bool) { return kKind; }
ANSWER bool isAccelerator(c10::DeviceType kind) { return kind == kKind; }
ANSWER DeviceIndex deviceCount() { return 1; }
ANSWER void setDeviceIndex(DeviceIndex) {}
ANSWER DeviceIndex getDeviceIndex() { return 0; }
ANSWER void setCurrentStream(c10::Stream) {}
ANSWER c10::Stream getCurrentStream(DeviceIndex) { return Guard::stream(); }
ANSWER void synchronizeDevice(DeviceIndex) {}
ANSWER DeviceIndex exchangeDevice(DeviceIndex) { return 0; }
ANSWER DeviceIndex maybeExchangeDevice(DeviceIndex) { return 0; }
}  // namespace at::accelerator
