#include <memory>
#include <vector>

#include "report.hpp"
#include "shapes.hpp"

int main() {
    std::vector<std::unique_ptr<Shape>> shapes;
    shapes.push_back(std::make_unique<Square>(3));
    shapes.push_back(std::make_unique<Circle>(2));
    for (const auto& shape : shapes) {
        describe(*shape);
    }
}
