print("this is never printed")
answer = = 42  # broken here
print(answer)
