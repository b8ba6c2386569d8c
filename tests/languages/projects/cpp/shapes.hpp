#pragma once

#include <cmath>
#include <string>

class Shape {
public:
    virtual ~Shape() = default;
    virtual std::string name() const = 0;
    virtual double area() const = 0;
};

class Square : public Shape {
public:
    explicit Square(double side) : side_(side) {}
    std::string name() const override { return "square"; }
    double area() const override { return side_ * side_; }

private:
    double side_;
};

class Circle : public Shape {
public:
    explicit Circle(double radius) : radius_(radius) {}
    std::string name() const override { return "circle"; }
    double area() const override { return std::acos(-1) * radius_ * radius_; }

private:
    double radius_;
};
