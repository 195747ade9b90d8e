/* SPDX-License-Identifier: MIT */
#include "libcommon/document.h"
