// Runs one method of a compiled library: runner LIBRARY METHOD FOLDER
//
// FOLDER/arguments.txt has a line "TYPE NDIM DIM..." for each argument, whose raw bytes are FOLDER/argument_I.bin.
// Outputs are written as FOLDER/output_I.bin. Types: float32, int64.

#include <dlfcn.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace ffi = tvm::ffi;

namespace {

constexpr int kCpu = 1, kPooledAllocator = 2, kAlignment = 64;

struct AlignedMemory {
  void AllocData(DLTensor* tensor) {
    size_t bytes = ffi::GetDataSize(*tensor);
    tensor->data = std::aligned_alloc(kAlignment, (bytes / kAlignment + 1) * kAlignment);
  }
  void FreeData(DLTensor* tensor) { std::free(tensor->data); }
};

ffi::Tensor ReadArgument(const std::string& line, const std::string& path) {
  std::istringstream fields(line);
  std::string type;
  int ndim;
  fields >> type >> ndim;
  std::vector<int64_t> shape(ndim);
  for (int64_t& size : shape) fields >> size;
  DLDataType dtype = type == "int64" ? DLDataType{kDLInt, 64, 1} : DLDataType{kDLFloat, 32, 1};
  ffi::Tensor tensor = ffi::Tensor::FromNDAlloc(AlignedMemory(), ffi::ShapeView(shape.data(), shape.size()), dtype,
                                                DLDevice{kDLCPU, 0});
  std::ifstream file(path, std::ios::binary);
  if (!file.read(static_cast<char*>(tensor.data_ptr()), ffi::GetDataSize(*tensor.GetDLTensorPtr())))
    throw std::runtime_error("cannot read " + path);
  return tensor;
}

void WriteOutput(const ffi::Tensor& tensor, const std::string& path) {
  std::ofstream file(path, std::ios::binary);
  file.write(static_cast<const char*>(tensor.data_ptr()), ffi::GetDataSize(*tensor.GetDLTensorPtr()));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return std::cerr << "usage: runner LIBRARY METHOD FOLDER\n", 2;
  const std::string folder = std::string(argv[3]) + "/";
  // Nothing here refers to the runtime's symbols, but the library registers with it.
  if (dlopen("libtvm_runtime.so", RTLD_NOW | RTLD_GLOBAL) == nullptr) return std::cerr << dlerror() << "\n", 3;
  ffi::Module library = ffi::Module::LoadFromFile(argv[1]);
  ffi::Module machine = library->GetFunction("vm_load_executable").value()().cast<ffi::Module>();
  machine->GetFunction("vm_initialization").value()(kCpu, 0, kPooledAllocator);

  std::vector<ffi::Tensor> arguments;
  std::ifstream list(folder + "arguments.txt");
  for (std::string line; std::getline(list, line);)
    arguments.push_back(ReadArgument(line, folder + "argument_" + std::to_string(arguments.size()) + ".bin"));
  std::vector<ffi::AnyView> views(arguments.begin(), arguments.end());
  ffi::Any result;
  machine->GetFunction(argv[2]).value().CallPacked(views.data(), static_cast<int32_t>(views.size()), &result);

  auto outputs = result.cast<ffi::Array<ffi::Tensor>>();
  for (size_t i = 0; i < outputs.size(); ++i) WriteOutput(outputs[i], folder + "output_" + std::to_string(i) + ".bin");
  std::cout << outputs.size() << " outputs\n";
  return 0;
}
