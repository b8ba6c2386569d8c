insert <- function(node, key) {
  if (is.null(node)) return(list(key = key))
  side <- if (key < node$key) "left" else "right"
  node[[side]] <- insert(node[[side]], key)
  node
}

in_order <- function(node) {
  if (!is.null(node)) c(in_order(node$left), node$key, in_order(node$right))
}

pre_order <- function(node) {
  if (!is.null(node)) c(node$key, pre_order(node$left), pre_order(node$right))
}

height <- function(node) {
  if (is.null(node)) 0 else 1 + max(height(node$left), height(node$right))
}

tree <- Reduce(insert, c(50, 30, 70, 20, 40, 60, 80, 35, 45, 65, 63), NULL)
writeLines(paste(c("in order:", in_order(tree)), collapse = " "))
writeLines(paste(c("pre-order:", pre_order(tree)), collapse = " "))
writeLines(paste("height:", height(tree)))
