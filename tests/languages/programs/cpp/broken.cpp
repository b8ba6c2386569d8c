#include <iostream>
#include <string>

int main() {
    std::cout << "this is never printed\n";
    int answer = std::string("forty-two");  // broken here
    return answer;
}
