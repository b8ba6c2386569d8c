program greeting_in_utf8
  implicit none
  character(len=*), parameter :: greeting = 'Grüße, 世界 🌍'
  integer :: index, output, count

  print '(a)', greeting
  ! A code point has one byte that does not begin with the bits 10.
  count = 0
  do index = 1, len(greeting)
    if (iand(iachar(greeting(index:index)), 192) /= 128) count = count + 1
  end do
  print '(i0,a)', count, ' code points'
  open (newunit=output, file='grüße 世界.txt', action='write')
  write (output, '(a)') greeting
  close (output)
end program greeting_in_utf8
