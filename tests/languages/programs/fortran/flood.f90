program flood
  implicit none
  integer :: number

  number = 0
  do
    number = number + 1
    print '(a,i0)', 'line ', number
  end do
end program flood
