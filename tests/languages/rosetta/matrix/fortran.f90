program matrix_product
  use, intrinsic :: iso_fortran_env, only: int64
  implicit none
  integer :: left(2, 3), right(3, 2), answer(2, 2), row, count
  integer(int64) :: step(2, 2), power(2, 2)

  left = reshape([1, 2, 3, 4, 5, 6], shape(left), order=[2, 1])
  right = reshape([7, 8, 9, 10, 11, 12], shape(right), order=[2, 1])
  answer = matmul(left, right)
  do row = 1, 2
    print '(i0,1x,i0)', answer(row, :)
  end do

  step = reshape([1, 1, 1, 0], shape(step))
  power = reshape([1, 0, 0, 1], shape(power))
  do count = 1, 70
    power = matmul(power, step)
  end do
  print '(a,i0)', 'fibonacci(70) = ', power(1, 2)
end program matrix_product
