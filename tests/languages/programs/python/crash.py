def divide(dividend, divisor):
    if divisor == 0:
        raise ValueError("boom")
    return dividend / divisor


print("before", flush=True)
divide(1, 0)
print("after")
