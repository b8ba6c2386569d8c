from math import factorial

for number in (5, 25, 50):
    print(f"{number}! = {factorial(number)}")
