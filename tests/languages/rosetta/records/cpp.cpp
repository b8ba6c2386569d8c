#include <algorithm>
#include <iomanip>
#include <iostream>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

struct Employee {
    std::string name;
    std::string department;
    int salary = 0;
};

bool operator<(const Employee& a, const Employee& b) {
    return std::tie(a.department, b.salary, a.name) < std::tie(b.department, a.salary, b.name);
}

int main() {
    std::vector<Employee> employees;
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream fields(line);
        Employee employee;
        std::getline(fields, employee.name, ',');
        std::getline(fields, employee.department, ',');
        fields >> employee.salary;
        employees.push_back(employee);
    }
    std::sort(employees.begin(), employees.end());
    for (const auto& [name, department, salary] : employees) {
        std::cout << std::left << std::setw(10) << department << ' ' << std::setw(8) << name << ' ' << std::right
                  << std::setw(6) << salary << '\n';
    }
}
