program broken
  implicit none
  integer :: answer
  print '(a)', 'this is never printed'
  answer = 'forty-two' ! broken here
  print *, answer
end program broken
