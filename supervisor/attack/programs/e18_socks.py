for greeting in (b"\5\1\0", b"\5\2\0\2", b"\4\1\x01\xbb\x2d\x00\x00\x0auser\0", b"\5\1\0\5\3\0\1\0\0\0\0\0\0"):
    answer = talk(PROXY, greeting + b"\5\1\0\1\x2d\x00\x00\x0a\x01\xbb" + b"x" * 100 + b"\r\n\r\n", 3)
    must_be("SOCKS", answer[:1] in (b"", b"H") and b" 200 " not in answer[:20], True)
done()
