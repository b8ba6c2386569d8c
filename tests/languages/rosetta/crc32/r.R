# R's integers have a sign, so a checksum is 32 bits: a logical vector, the least first.
bits_of <- function(bytes) as.logical(rawToBits(bytes))
polynomial <- bits_of(as.raw(c(0x20, 0x83, 0xb8, 0xed)))

crc32 <- function(text) {
  crc <- rep(TRUE, 32)
  for (byte in charToRaw(text)) {
    crc[1:8] <- xor(crc[1:8], bits_of(as.raw(byte)))
    for (bit in 1:8) {
      shifted <- c(crc[-1], FALSE)
      crc <- if (crc[1]) xor(shifted, polynomial) else shifted
    }
  }
  paste(rev(packBits(!crc)), collapse = "")
}

writeLines(vapply(readLines("stdin"), crc32, ""))
