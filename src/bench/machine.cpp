#include "bench/machine.h"

#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

#include <ctime>
#include <fstream>

namespace fastkv::bench {

std::string cpu_name() {
#ifdef __APPLE__
    char name[256];
    size_t size = sizeof name;
    return sysctlbyname("machdep.cpu.brand_string", name, &size, nullptr, 0) == 0 ? name : "";
#else
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        const size_t colon = line.find(": ");
        if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
    }
    return "";
#endif
}

std::string utc_time() {
    const std::time_t now = std::time(nullptr);
    std::tm utc{};
    gmtime_r(&now, &utc);
    char text[32];
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return text;
}

}  // namespace fastkv::bench
