// What the C++ library does by itself.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <future>
#include <iostream>
#include <locale>
#include <map>
#include <mutex>
#include <random>
#include <regex>
#include <shared_mutex>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <vector>
namespace fs = std::filesystem;
int main() {
    std::vector<std::thread> all; std::mutex m; std::condition_variable c; int n = 0;
    for (int i = 0; i < 8; i++) all.emplace_back([&] { std::lock_guard g(m); n++; c.notify_all(); });
    { std::unique_lock g(m); c.wait_for(g, std::chrono::seconds(5), [&] { return n == 8; }); }
    for (auto &t : all) t.join();
    std::shared_mutex s; { std::shared_lock g(s); }
    if (std::async(std::launch::async, [] { return 42; }).get() != 42) return 1;
    thread_local std::string local = "x";
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::this_thread::yield();
    fs::create_directories("/tmp/a/b");
    std::ofstream("/tmp/a/f") << 1.5;
    fs::copy("/tmp/a", "/tmp/c", fs::copy_options::recursive);
    fs::rename("/tmp/c", "/tmp/d");
    fs::create_symlink("f", "/tmp/a/l");
    fs::last_write_time("/tmp/a/f", fs::file_time_type::clock::now());
    fs::permissions("/tmp/a/f", fs::perms::owner_all);
    fs::space("/tmp");
    for (auto &e : fs::recursive_directory_iterator("/tmp")) (void)e.is_regular_file();
    fs::resize_file("/tmp/a/f", 100);
    fs::remove_all("/tmp/d");
    std::random_device device;
    std::mt19937 engine(device());
    std::uniform_int_distribution<int>(1, 6)(engine);
    std::regex_match("abc123", std::regex("[a-z]+[0-9]+")); std::locale::global(std::locale("C.UTF-8"));
    try { throw std::runtime_error("x"); } catch (const std::exception &) { }
    std::vector<double> big(30'000'000, 1.0);
    std::map<int, std::string> map;
    for (int i = 0; i < 100000; i++) map[i] = "x";
    std::cout << "done" << std::endl;
}
