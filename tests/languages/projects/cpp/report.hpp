#pragma once

#include "shapes.hpp"

void describe(const Shape& shape);
